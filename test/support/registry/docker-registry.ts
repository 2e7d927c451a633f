import { spawn } from "node:child_process";
import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { debianProgram } from "#test/support/debian.ts";
import { digestOf, type Descriptor, type Image } from "#test/support/images.ts";
import { until } from "#test/support/processes.ts";
import type { Room } from "#test/support/room.ts";

export interface DockerRegistry {
  /** `127.0.0.1:PORT`, the host part of references. */
  readonly host: string;
  push(image: Image, repository: string, tag: string): Promise<void>;
}

/** Debian's docker-registry on loopback, without TLS, with its files in the room. It ends with the room. */
export async function startDockerRegistry(room: Room): Promise<DockerRegistry> {
  const dir = join(room.dir, "registry");
  const [config, logFile] = [join(dir, "config.yml"), join(dir, "log")];
  await mkdir(dir);
  await writeFile(config, JSON.stringify(configuration(join(dir, "data"))));
  const log = openSync(logFile, "a");
  const child = spawn(debianProgram("docker-registry"), ["serve", config], {
    stdio: ["ignore", log, log],
    env: { OTEL_TRACES_EXPORTER: "none" },
  });
  closeSync(log);
  const ended = (): boolean => child.exitCode !== null || child.signalCode !== null;
  room.resources.defer(async () => {
    child.kill("SIGTERM");
    await until("docker-registry ends", ended);
  });
  // The port is the kernel's choice: the log says which.
  let host: string | undefined;
  await until("docker-registry listens", async () => {
    const text = await readFile(logFile, "utf8");
    assert.ok(!ended(), `docker-registry ended\n${text}`);
    host = /listening on (127\.0\.0\.1:\d+)/.exec(text)?.[1];
    return host !== undefined;
  });
  assert.ok(host !== undefined);
  const base = `http://${host}/v2`;
  return {
    host,
    push: (image, repository, tag) => pushImage(`${base}/${repository}`, image, tag),
  };
}

/** JSON is YAML. */
function configuration(rootdirectory: string): object {
  return {
    version: "0.1",
    log: { level: "info", formatter: "text" },
    storage: { filesystem: { rootdirectory } },
    http: { addr: "127.0.0.1:0" },
  };
}

async function pushImage(base: string, image: Image, tag: string): Promise<void> {
  await pushManifest(base, image, image.target, tag);
}

/** What a manifest refers to has to be there before it. */
async function pushManifest(
  base: string,
  image: Image,
  target: Descriptor,
  reference: string,
): Promise<void> {
  const bytes = blobOf(image, target.digest);
  // -- a document this project's own tests wrote
  const document = JSON.parse(Buffer.from(bytes).toString()) as {
    manifests?: Descriptor[];
    config?: Descriptor;
    layers?: Descriptor[];
  };
  for (const part of document.manifests ?? []) await pushManifest(base, image, part, part.digest);
  for (const part of [document.config, ...(document.layers ?? [])]) {
    if (part) await pushBlob(base, blobOf(image, part.digest));
  }
  const response = await fetch(`${base}/manifests/${reference}`, {
    method: "PUT",
    headers: { "content-type": target.mediaType },
    body: Buffer.from(bytes),
  });
  assert.equal(response.status, 201, await response.text());
}

async function pushBlob(base: string, bytes: Uint8Array): Promise<void> {
  const started = await fetch(`${base}/blobs/uploads/`, { method: "POST" });
  assert.equal(started.status, 202, await started.text());
  const location = new URL(started.headers.get("location") ?? "", base);
  location.searchParams.set("digest", digestOf(bytes));
  const response = await fetch(location, { method: "PUT", body: Buffer.from(bytes) });
  assert.equal(response.status, 201, await response.text());
}

function blobOf(image: Image, digest: string): Uint8Array {
  const bytes = image.blobs.get(digest);
  assert.ok(bytes !== undefined, `the image has no blob ${digest}`);
  return bytes;
}
