import { copyFileSync, existsSync, linkSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { debianProgram } from "#test/support/debian.ts";
import type { Room } from "#test/support/room.ts";

export interface BundleOptions {
  readonly args?: readonly string[];
  readonly terminal?: boolean;
  readonly ociVersion?: string;
  readonly pidNamespace?: "own" | "host";
  readonly process?: object;
}

/** A bundle whose container runs busybox's shell. */
export function makeBundle(room: Room, id: string, options: BundleOptions = {}): string {
  const bundle = join(room.dir, "state", id);
  makeRootfs(room, join(bundle, "rootfs"));
  writeFileSync(join(bundle, "config.json"), JSON.stringify(specOf(room, id, options)));
  return bundle;
}

/** Busybox and the directories that a runtime mounts on. */
export function makeRootfs(room: Room, rootfs: string): string {
  for (const path of ["bin", "proc", "dev", "tmp", "etc", "sys", "run"]) {
    mkdirSync(join(rootfs, path), { recursive: true });
  }
  installBusybox(room, join(rootfs, "bin"));
  return rootfs;
}

/**
 * For shims that share a namespace with others, and so leave the directory of its states to them.
 */
export function ownRuntimeRoot(room: Room): void {
  room.resources.defer(() => {
    rmSync(join("/run/containerd/runc", room.namespace), { recursive: true, force: true });
  });
}

function installBusybox(room: Room, directory: string): void {
  const shared = join(room.dir, "busybox");
  if (!existsSync(shared)) {
    copyFileSync(process.env["BUSYBOX"] ?? debianProgram("busybox"), shared);
  }
  for (const name of [
    "busybox",
    "sh",
    "sleep",
    "cat",
    "echo",
    "true",
    "stty",
    "head",
    "tr",
    "mkfifo",
  ]) {
    linkSync(shared, join(directory, name));
  }
}

function specOf(room: Room, id: string, options: BundleOptions): object {
  const namespaces = ["ipc", "uts", "mount", "network"].map((type) => ({ type }));
  if (options.pidNamespace !== "host") namespaces.push({ type: "pid" });
  return {
    ociVersion: options.ociVersion ?? "1.0.2",
    process: processOf(options.args ?? ["sleep", "1000"], options),
    root: { path: "rootfs" },
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
      {
        destination: "/dev/pts",
        type: "devpts",
        source: "devpts",
        options: ["newinstance", "ptmxmode=0666"],
      },
    ],
    linux: {
      namespaces,
      cgroupsPath: `/${room.namespace}/${id}`,
      resources: { devices: [{ allow: true, access: "rwm" }] },
    },
  };
}

export function processOf(args: readonly string[], options: BundleOptions = {}): object {
  return {
    user: { uid: 0, gid: 0 },
    args,
    cwd: "/",
    env: ["PATH=/bin"],
    terminal: options.terminal ?? false,
    ...options.process,
  };
}

export function execSpec(args: readonly string[], options: BundleOptions = {}): Any {
  return create(AnySchema, {
    typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
    value: Buffer.from(JSON.stringify(processOf(args, options))),
  });
}

export function runcOptions(options: MessageInitShape<typeof OptionsSchema>): Any {
  return create(AnySchema, {
    typeUrl: OptionsSchema.typeName,
    value: toBinary(OptionsSchema, create(OptionsSchema, options)),
  });
}
