import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Leases } from "#api/services/leases/v1/leases_pb.ts";
import { credentialsFrom, staticCredentials } from "#core/remotes/credentials.ts";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import type { ImportObject, Progress, RegistryObject } from "#core/transfer/transfer.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { type Daemon, type DaemonKind, startDaemon } from "#test/support/daemon.ts";
import { newerProgram } from "#test/support/debian.ts";
import { busyboxImage, hostPlatform, ociArchive } from "#test/support/images.ts";
import { startRegistry } from "#test/support/registry/registry.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { anyName, exportObject, importObject, storeObject } from "./local-transfer.ts";

// The client here speaks the streams of Go's daemon, as Go's client speaks those of this one (`ctr2.root.test.ts`).
// Both daemons are held against the same.

const name = "docker.io/library/busybox:1";
const unpacks = [{ platform: hostPlatform, snapshotter: "" }];
const needs = { needs: ["sid"] } as const;

interface Setup {
  readonly ctx: Context;
  readonly daemon: Daemon;
  readonly transferrer: GrpcTransferrer;
}

async function setUp(room: Room, kind: DaemonKind): Promise<Setup> {
  const daemon = await startDaemon(room, { kind, goProgram: newerProgram("sid", "containerd") });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const unleased = Context.background({ signal: room.signal, namespace: room.namespace });
  // Go's daemon collects streams that no lease holds, also one that it has just been given.
  const leases = createClient(Leases, transport);
  const { lease } = await leases.create(unleased, { id: "", labels: {} });
  const ctx = unleased.withLease(lease?.id ?? "");
  return { ctx, daemon, transferrer: new GrpcTransferrer(transport) };
}

const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

for (const kind of ["go", "ours"] as const) {
  roomTest(
    `${kind}: bytes come back as they were sent: none, one, a window and one, many`,
    async (room) => {
      const { ctx, transferrer } = await setUp(room, kind);
      for (const length of [0, 1, 32 << 10, (64 << 10) + 1, 9_000_001]) {
        const bytes = Buffer.alloc(length, `${length} bytes `);
        for (const chunkBytes of [1_000_003, 4_096]) {
          if (length > 1_000_000 && chunkBytes === 4_096) continue;
          const chunks: Uint8Array[] = [];
          const source = importObject(bytes, chunkBytes);
          await transferrer.transfer(ctx, source, exportObject({}, chunks));
          const back = Buffer.concat(chunks);
          assert.deepEqual([back.length, digestOf(back)], [length, digestOf(bytes)]);
        }
      }
    },
    { ...needs, timeoutMs: 40_000 },
  );

  roomTest(
    `${kind}: images go in and out, with progress; what is no archive is refused`,
    async (room) => {
      const { ctx, transferrer, daemon } = await setUp(room, kind);
      const steps: Progress[] = [];
      const progress = (step: Progress): void => void steps.push(step);
      const store = storeObject({ references: [anyName], platforms: [hostPlatform], unpacks });
      const archive = ociArchive(busyboxImage(), name);
      await transferrer.transfer(ctx, importObject(archive), store, { progress });
      const events = steps.map(({ event }) => event);
      assert.equal(events[0], "Importing");
      assert.ok(events.includes("saved"));
      assert.equal(events.at(-1), "Completed import");
      const ran = await daemon.ctr(["run", "--rm", name, "c1", "cat", "/etc/motd"]);
      assert.deepEqual([ran.stdout, ran.code], ["second layer\n", 0]);
      const chunks: Uint8Array[] = [];
      await transferrer.transfer(ctx, storeObject({ name }), exportObject({}, chunks));
      await daemon.ctrOk(["i", "rm", "--sync", name]);
      await transferrer.transfer(ctx, importObject(Buffer.concat(chunks)), store);
      for (const bytes of [Buffer.alloc(0), Buffer.from("no archive at all")]) {
        await assert.rejects(transferrer.transfer(ctx, importObject(bytes), store));
      }
    },
    { ...needs, timeoutMs: 40_000 },
  );

  roomTest(
    `${kind}: what fails on this side ends the transfer, and is what is thrown`,
    async (room) => {
      const { ctx, transferrer } = await setUp(room, kind);
      const disk = new Error("no space left on device");
      const archive = ociArchive(busyboxImage(), name);
      const source: ImportObject = {
        ...importObject(Buffer.alloc(0)),
        async *read() {
          yield archive.subarray(0, archive.length / 2);
          throw disk;
        },
      };
      const store = storeObject({ references: [anyName], platforms: [hostPlatform] });
      const thrown = (given: unknown): boolean => given === disk;
      await assert.rejects(transferrer.transfer(ctx, source, store), thrown);
      const bytes = Buffer.alloc(1_000_000);
      const failing = { write: () => Promise.reject(disk) };
      const target = exportObject(failing, []);
      await assert.rejects(transferrer.transfer(ctx, importObject(bytes), target), thrown);
      const served = { repository: "busybox", tag: "1", image: busyboxImage() };
      const registry = room.resources.use(await startRegistry([served], { user: "me:s3cret" }));
      const from: RegistryObject = {
        kind: "registry",
        reference: `${registry.host}/busybox:1`,
        headers: {},
        hostDir: "",
        defaultScheme: "http",
        credentials: credentialsFrom("the test", () => Promise.reject(disk)),
      };
      await assert.rejects(transferrer.transfer(ctx, from, storeObject({ name })), thrown);
    },
    { ...needs, timeoutMs: 40_000 },
  );

  roomTest(
    `${kind}: credentials and what is said to registries go over streams too`,
    async (room) => {
      const { ctx, transferrer } = await setUp(room, kind);
      const served = { repository: "busybox", tag: "1", image: busyboxImage() };
      const user = "me:s3cret-word";
      const registry = room.resources.use(await startRegistry([served], { user }));
      const reference = `${registry.host}/busybox:1`;
      const dumped: string[] = [];
      const steps: Progress[] = [];
      const object = (secret: string | undefined): RegistryObject => ({
        kind: "registry",
        reference,
        headers: {},
        hostDir: "",
        defaultScheme: "http",
        credentials:
          secret === undefined
            ? undefined
            : staticCredentials(registry.host, { username: "me", secret }, "the test"),
        httpDump: (text) => void dumped.push(text),
      });
      const store = storeObject({ name: reference, platforms: [hostPlatform], unpacks });
      const pull = (secret?: string): Promise<void> =>
        transferrer.transfer(ctx, object(secret), store, {
          progress: (step) => void steps.push(step),
        });
      await assert.rejects(pull());
      await assert.rejects(pull("wrong"));
      steps.length = 0;
      await pull("s3cret-word");
      assert.match(dumped.join(""), /HEAD \/v2\/busybox\/manifests\/1 HTTP\/1\.1/);
      assert.ok(steps.some(({ event, doneBytes = 0 }) => event === "complete" && doneBytes > 0));
      const completed = `Completed pull from OCI Registry (${reference})`;
      assert.ok(steps.some(({ event }) => event === completed));
    },
    { ...needs, timeoutMs: 40_000 },
  );
}
