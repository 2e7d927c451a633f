import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import {
  bundleAt,
  createBundle,
  deleteBundle,
  listBundles,
  removeHidden,
  removeOrphanWork,
} from "#core/runtime/bundle.ts";
import { codeOf } from "#pkg/errors.ts";

const nothingMounted = async (): Promise<void> => {};

async function temporary(): Promise<AsyncDisposable & { root: string; state: string }> {
  const dir = await mkdtemp(join(tmpdir(), "bundle-"));
  return {
    root: join(dir, "root"),
    state: join(dir, "state"),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}

function spec(value: unknown): { typeUrl: string; value: Uint8Array } {
  return {
    typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec",
    value: Buffer.from(JSON.stringify(value)),
  };
}

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o7777;
}

test("createBundle() makes upstream's directories and passes the spec through", async () => {
  await using roots = await temporary();
  const config = spec({ ociVersion: "1.0.2", unknown: [1.5, "\u00e9"] });
  const bundle = await createBundle(roots, { namespace: "ns", id: "c1", spec: config });
  assert.equal(bundle.path, join(roots.state, "ns", "c1"));
  assert.equal(await modeOf(join(roots.state, "ns")), 0o711);
  assert.equal(await modeOf(bundle.path), 0o700);
  assert.equal(await modeOf(join(bundle.path, "config.json")), 0o600);
  assert.equal(await modeOf(join(bundle.path, "rootfs")), 0o711);
  assert.deepEqual(await readFile(join(bundle.path, "config.json")), config.value);
  assert.equal(await readlink(join(bundle.path, "work")), join(roots.root, "ns", "c1"));
  assert.deepEqual((await readdir(bundle.path)).toSorted(), ["config.json", "rootfs", "work"]);
});

test("createBundle() opens the bundle to the group that a remapped root has", async () => {
  await using roots = await temporary();
  const mapped = (gid: number) =>
    spec({ linux: { gidMappings: [{ containerID: 0, hostID: gid, size: 1 }] } });
  const own = process.getgid?.() ?? 0;
  const bundle = await createBundle(roots, { namespace: "ns", id: "c1", spec: mapped(own) });
  // A group of 0 needs no opening; anybody else's own group can be set without privilege.
  assert.equal(await modeOf(bundle.path), own === 0 ? 0o700 : 0o710);
  if (own !== 0) return;
  const other = await createBundle(roots, { namespace: "ns", id: "c2", spec: mapped(4242) });
  assert.equal(await modeOf(other.path), 0o710);
  assert.equal((await stat(other.path)).gid, 4242);
});

test("createBundle() refuses an id that is taken and leaves its owner alone", async () => {
  await using roots = await temporary();
  const first = await createBundle(roots, { namespace: "ns", id: "c1", spec: spec({ a: 1 }) });
  await assert.rejects(
    createBundle(roots, { namespace: "ns", id: "c1", spec: spec({ b: 2 }) }),
    (error: Error) =>
      codeOf(error) === "already-exists" && /task c1: already exists/.test(error.message),
  );
  assert.equal(await readFile(join(first.path, "config.json"), "utf8"), '{"a":1}');
});

test("createBundle() refuses an id that is none", async () => {
  await using roots = await temporary();
  await assert.rejects(
    createBundle(roots, { namespace: "ns", id: "../c1", spec: undefined }),
    (error: Error) => codeOf(error) === "invalid-argument" && /invalid task id/.test(error.message),
  );
});

test("createBundle() leaves nothing when the spec does not parse", async () => {
  await using roots = await temporary();
  const broken = { ...spec({}), value: Buffer.from("{") };
  await assert.rejects(createBundle(roots, { namespace: "ns", id: "c1", spec: broken }));
  assert.deepEqual(await readdir(join(roots.state, "ns")), []);
});

test("createBundle() empties a work directory that a reboot has left", async () => {
  await using roots = await temporary();
  const work = join(roots.root, "ns", "c1");
  await mkdir(work, { recursive: true });
  await writeFile(join(work, "old"), "");
  await createBundle(roots, { namespace: "ns", id: "c1", spec: undefined });
  assert.deepEqual(await readdir(work), []);
});

test("deleteBundle() removes bundle and work directory and may be repeated", async () => {
  await using roots = await temporary();
  const bundle = await createBundle(roots, { namespace: "ns", id: "c1", spec: spec({}) });
  // Without a mount, what a runtime made in it is the bundle's own.
  await mkdir(join(bundle.path, "rootfs", "proc"));
  // What a crash in the middle of an earlier removal leaves.
  await mkdir(join(roots.state, "ns", ".c1", "rootfs"), { recursive: true });
  await deleteBundle(bundle, nothingMounted);
  await deleteBundle(bundle, nothingMounted);
  assert.deepEqual(await readdir(join(roots.state, "ns")), []);
  assert.deepEqual(await readdir(join(roots.root, "ns")), []);
});

test("deleteBundle() removes nothing while something stays mounted below", async () => {
  await using roots = await temporary();
  const bundle = await createBundle(roots, { namespace: "ns", id: "c1", spec: spec({}) });
  await writeFile(join(bundle.path, "rootfs", "precious"), "");
  const stuck = async (): Promise<never> => {
    throw new Error("still mounted");
  };
  await assert.rejects(deleteBundle(bundle, stuck), /still mounted/);
  assert.deepEqual(await readdir(join(bundle.path, "rootfs")), ["precious"]);
});

test("listBundles() leaves out hidden names, and removeHidden() removes them", async () => {
  await using roots = await temporary();
  await createBundle(roots, { namespace: "a", id: "c1", spec: undefined });
  await createBundle(roots, { namespace: "b", id: "c2", spec: undefined });
  await mkdir(join(roots.state, "a", ".gone"));
  await mkdir(join(roots.state, ".hidden"));
  await writeFile(join(roots.state, "file"), "");
  const found = await listBundles(roots);
  assert.deepEqual([...found.keys()].toSorted(), ["a", "b"]);
  assert.deepEqual(found.get("a"), [bundleAt(roots, "a", "c1")]);
  await removeHidden(join(roots.state, "a"), nothingMounted);
  assert.deepEqual(await readdir(join(roots.state, "a")), ["c1"]);
});

test("removeHidden() removes what it can beside one that stays mounted", async () => {
  await using roots = await temporary();
  for (const name of [".a", ".b", ".c"])
    await mkdir(join(roots.state, "ns", name), { recursive: true });
  const stuck = async (path: string): Promise<void> => {
    if (path.endsWith(".b")) throw new Error("still mounted");
  };
  await assert.rejects(removeHidden(join(roots.state, "ns"), stuck), /still mounted/);
  assert.deepEqual(await readdir(join(roots.state, "ns")), [".b"]);
});

test("removeOrphanWork() keeps the directories of tasks that live", async () => {
  await using roots = await temporary();
  await mkdir(join(roots.root, "ns", "alive"), { recursive: true });
  await mkdir(join(roots.root, "ns", "orphan", "deep"), { recursive: true });
  await removeOrphanWork(roots.root, "ns", (id) => id === "alive");
  assert.deepEqual(await readdir(join(roots.root, "ns")), ["alive"]);
});
