import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "#test/support/command.ts";
import { type Daemon, type DaemonKind, startDaemon } from "#test/support/daemon.ts";
import { debianProgram } from "#test/support/debian.ts";
import {
  busyboxImage,
  busyboxLayer,
  buildIndex,
  hostPlatform,
  type Image,
  ociArchive,
} from "#test/support/images.ts";
import { startDockerRegistry } from "#test/support/registry/docker-registry.ts";
import type { Room } from "#test/support/room.ts";
import type { CompatCase, Given } from "./compat-case.ts";
import { inAnyOrder, normalise, printedSizes } from "./normalise.ts";

const project = join(import.meta.dirname, "../..");

/** Runs a case against a daemon of the given kind and returns what was printed, normalised, as it is recorded. */
export async function transcribe(
  room: Room,
  compatCase: CompatCase,
  kind: DaemonKind,
): Promise<string> {
  // Soft limit unlike any default, so that it is seen where it comes through.
  const daemon = await startDaemon(room, { kind, softOpenFiles: 4000 });
  const scene = await setScene(room, daemon, compatCase.given ?? []);
  const blocks: string[] = [];
  for (const line of compatCase.lines) {
    const output = await run(["/bin/sh", "-c", `. "$SHELL_LIBRARY"; ${line}`], {
      cwd: scene.dir,
      env: scene.env,
      timeoutMs: 60_000,
    });
    const errors = normalise(output.stderr, scene.replacements);
    const printed = ended(normalise(output.stdout, scene.replacements));
    blocks.push(
      `$ ${line}\n`,
      line.endsWith("# in any order") ? inAnyOrder(printed) : printed,
      ended(errors.replaceAll(/^(?=.)/gm, "! ")),
      output.code === 0 ? "" : `exit ${output.code}\n`,
      "\n",
    );
  }
  return blocks.join("");
}

function ended(text: string): string {
  return text === "" || text.endsWith("\n") ? text : `${text}\n`;
}

interface Scene {
  readonly dir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly replacements: Map<string, string>;
}

async function setScene(room: Room, daemon: Daemon, given: readonly Given[]): Promise<Scene> {
  const dir = join(room.dir, "work");
  const bin = join(room.dir, "bin");
  await mkdir(dir);
  await mkdir(bin);
  await symlink(debianProgram("ctr"), join(bin, "ctr"));
  const program =
    daemon.kind === "go" ? debianProgram("containerd") : join(project, "bin/containerd");
  await symlink(program, join(bin, "containerd"));
  const replacements = new Map([
    [room.dir, "DIR"],
    [room.namespace, "NAMESPACE"],
    [`linux/${hostPlatform.architecture}`, "linux/HOST"],
  ]);
  const env: Record<string, string> = {
    ...daemon.clientEnv,
    PATH: `${bin}:${daemon.clientEnv["PATH"]}`,
    SHELL_LIBRARY: join(import.meta.dirname, "shell.sh"),
  };
  const image = busyboxImage();
  name(replacements, "busybox", image);
  const archive = ociArchive(image, "docker.io/library/busybox:1");
  if (given.includes("archive")) await writeFile(join(dir, "busybox.tar"), archive);
  if (given.includes("busybox")) await importImage(daemon, archive);
  if (given.includes("rootfs")) await layOutRootfs(dir, daemon);
  if (given.includes("registry")) {
    const registry = await startDockerRegistry(room);
    const multi = multiPlatform(image);
    await registry.push(image, "busybox", "1");
    await registry.push(multi, "multi", "1");
    name(replacements, "multi", multi);
    replacements.set(registry.host, "REGISTRY");
    env["registry"] = registry.host;
  }
  return { dir, env, replacements };
}

/** The index of the archive is nobody's afterwards; it is collected before the first line, not at some time later. */
async function importImage(daemon: Daemon, archive: Uint8Array): Promise<void> {
  await daemon.ctrOk(["i", "import", "-"], { stdin: archive });
  await daemon.ctrOk(["leases", "create", "--id", "collect"]);
  await daemon.ctrOk(["leases", "rm", "--sync", "collect"]);
}

/**
 * Blobs by their role, `{busybox:layer0}`, and their sizes with them: Debian's busybox is not the same everywhere.
 * What two images share keeps its first name.
 */
function name(replacements: Map<string, string>, image: string, { roles, blobs }: Image): void {
  for (const [digest, role] of roles) {
    if (replacements.has(digest)) continue;
    replacements.set(digest, `{${image}:${role}}`);
    // File names lack the algorithm. The whole digest comes first in the order of replacement.
    replacements.set(digest.slice("sha256:".length), `{${image}:${role} in hex}`);
  }
  const sizes = [...blobs].map(([digest, bytes]) => [roles.get(digest), bytes.length] as const);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  for (const [role, size] of [...sizes, ["all", total] as const]) {
    for (const text of size > 1000 ? printedSizes(size) : []) {
      if (!replacements.has(text)) replacements.set(text, `{size of ${image}:${role}}`);
    }
  }
}

function multiPlatform(image: Image): Image {
  const other = { os: "linux", architecture: "s390x" };
  const layers = [[{ path: "etc/platform", content: "s390x\n" }]];
  return buildIndex([
    { image, platform: hostPlatform },
    { image: busyboxImage({ layers, platform: other }), platform: other },
  ]);
}

async function layOutRootfs(dir: string, daemon: Daemon): Promise<void> {
  const rootfs = join(dir, "rootfs");
  for (const entry of busyboxLayer()) {
    const path = join(rootfs, entry.path);
    if ("content" in entry) await writeFile(path, entry.content, { mode: entry.mode ?? 0o644 });
    else if ("target" in entry) await symlink(entry.target, path);
    else await mkdir(path, { recursive: true });
  }
  // -- what ctr prints is a runtime specification
  const spec = JSON.parse(await daemon.ctrOk(["oci", "spec"])) as {
    root: object;
    process: { rlimits?: unknown; args: string[]; env: string[] };
  };
  spec.root = { path: rootfs };
  delete spec.process.rlimits;
  spec.process.args = ["sh", "-c", "ulimit -Sn; umask"];
  spec.process.env = ["PATH=/bin"];
  await writeFile(join(dir, "spec.json"), JSON.stringify(spec));
}
