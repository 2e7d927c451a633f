// Pulls an image and runs a container of it, on a daemon that has nothing in common with any other on this machine,
// and leaves nothing behind. Started by tools/hello.sh.
import { existsSync } from "node:fs";
import { rmdir } from "node:fs/promises";
import { join } from "node:path";
import { isErrno, messageOf } from "#pkg/errors.ts";
import { type Daemon, daemonKind, startDaemon } from "#test/support/daemon.ts";
import { debianProgram } from "#test/support/debian.ts";
import { helloImage } from "#test/support/images.ts";
import { whyNot } from "#test/support/needs.ts";
import { run } from "#test/support/command.ts";
import { openRoom, type Room } from "#test/support/room.ts";
import { startRegistry } from "#test/support/registry/registry.ts";

const defaultImage = "docker.io/library/hello-world:latest";
const registryTimeoutMs = 3_000;
const ownText = `
Hello from containerd-ts!

A daemon written in TypeScript pulled this image, unpacked its layer, and
started the program in it as a container. No registry was reached, so the
image came from a small one on loopback that ended with the container.
To try another: sudo npm run hello -- docker.io/library/hello-world:latest

`;

interface Pull {
  readonly reference: string;
  readonly plainHttp: boolean;
}

let stepStarted = Number(process.env["HELLO_STARTED_MS"] ?? Date.now());

/** Each step is one line, with the time since the one before. */
function step(done: string): void {
  const now = Date.now();
  console.log(`${((now - stepStarted) / 1000).toFixed(2).padStart(6)} s  ${done}`);
  stepStarted = now;
}

async function main(args: readonly string[]): Promise<number> {
  if (process.getuid?.() !== 0) {
    const npmGaveUp = process.env["SUDO_UID"] !== undefined;
    console.error(
      `hello: needs root: run \`sudo ${npmGaveUp ? "sh tools/hello.sh" : "npm run hello"}\``,
    );
    return 1;
  }
  step("set up");
  // The terminal sends the signal to every process of the group: what waits for one of them ends by itself.
  let interrupted = false;
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => (interrupted = true));
  const newFolders = sharedFolders.filter((path) => !existsSync(path));
  const { room, close } = await openRoom();
  let code: number;
  let failure: string | undefined;
  try {
    code = await runContainer(room, args[0]);
  } catch (error) {
    code = 1;
    failure = messageOf(error);
  }
  try {
    await close();
    step("removed the daemon's folder; no mount, process, network namespace or cgroup is left");
  } catch (error) {
    // An interrupted run leaves what the room has ended by now.
    if (!interrupted) failure = [failure, messageOf(error)].filter(Boolean).join("\n");
  }
  await removeEmpty(newFolders);
  if (interrupted) failure = "interrupted";
  if (failure !== undefined) console.error(`hello: ${failure}`);
  return failure === undefined ? code : 1;
}

async function runContainer(room: Room, image: string | undefined): Promise<number> {
  const pull = await choosePull(room, image);
  const daemon = await startDaemon(room);
  step(`started the daemon (${daemonKind() === "go" ? "Go's" : "ours"}) on ${daemon.address}`);
  await pullImage(daemon, pull);
  step(`pulled ${pull.reference}`);
  const code = await runImage(daemon, pull.reference);
  step(code === 0 ? "ran it" : `ran it: exit code ${code}`);
  await daemon.ctrOk(["i", "rm", "--sync", pull.reference]);
  await daemon.stop();
  step("stopped the daemon");
  return code;
}

async function choosePull(room: Room, image: string | undefined): Promise<Pull> {
  const reference = image ?? defaultImage;
  const host = reference.split("/")[0] ?? "";
  const registry = host === "docker.io" ? "registry-1.docker.io" : host;
  const plainHttp = /^(localhost|127\.|\[::1\])/.test(host);
  const refusal = await registryRefusal(`${plainHttp ? "http" : "https"}://${registry}/v2/`);
  if (refusal === undefined) {
    step(`reached ${registry}`);
    return { reference, plainHttp };
  }
  if (image !== undefined) throw new Error(`${registry}: ${refusal}: try another image, or none`);
  const served = room.resources.use(
    await startRegistry([{ repository: "hello-world", tag: "latest", image: helloImage(ownText) }]),
  );
  step(`${registry}: ${refusal}: serving an image of our own on ${served.host} instead`);
  return { reference: `${served.host}/hello-world:latest`, plainHttp: true };
}

/** Why this is no registry that answers; undefined when it is one, whether or not it wants to know who asks. */
async function registryRefusal(url: string): Promise<string | undefined> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(registryTimeoutMs) });
    await response.body?.cancel();
    if (response.ok || response.status === 401) return undefined;
    return `answers ${response.status}`;
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    if (cause instanceof Error && cause.name === "TimeoutError") {
      return `no answer within ${registryTimeoutMs / 1000} s`;
    }
    return `no answer (${messageOf(cause)})`;
  }
}

async function pullImage(daemon: Daemon, { reference, plainHttp }: Pull): Promise<void> {
  const flags = [...(plainHttp ? ["--plain-http"] : []), ...snapshotterFlags()];
  const output = await daemon.ctr(["i", "pull", ...flags, reference], {
    env: proxyVariables(),
    timeoutMs: 600_000,
  });
  if (output.code !== 0) throw new Error(`pull ${reference}: ${lastLine(output.stderr)}`);
}

/** Where crun refuses the machine, runc runs the container: hello changes nothing to please it. */
async function runImage(daemon: Daemon, reference: string): Promise<number> {
  const refusal = whyNot(["crun"]);
  if (refusal !== undefined) step(`${refusal}: using runc`);
  const flags = [
    ...(refusal === undefined ? [] : ["--runc-binary", "runc"]),
    ...snapshotterFlags(),
  ];
  const argv = [debianProgram("ctr"), "run", "--rm", ...flags, reference, "hello"];
  const env = { ...daemon.clientEnv };
  const output = await run(argv, { env, passOutput: true, timeoutMs: 2 ** 31 - 1 });
  return output.code;
}

function snapshotterFlags(): string[] {
  return whyNot(["overlayfs"]) === undefined ? [] : ["--snapshotter", "native"];
}

function proxyVariables(): Record<string, string> {
  const names = /^(https?_proxy|no_proxy|ssl_cert_(file|dir))$/i;
  const entries = Object.entries(process.env).filter(([name]) => names.test(name));
  return Object.fromEntries(entries.map(([name, value]) => [name, value ?? ""]));
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}

/** ctr and runtimes make these, wherever their daemon is. */
const sharedFolders: readonly string[] = [
  ...["fifo", "runc", "s", "."].map((name) => join("/run/containerd", name)),
  "/run/crun",
];

async function removeEmpty(folders: readonly string[]): Promise<void> {
  for (const path of folders) {
    try {
      await rmdir(path);
    } catch (error) {
      if (!isErrno(error, "ENOENT", "ENOTEMPTY")) throw error;
    }
  }
}

process.exitCode = await main(process.argv.slice(2));
