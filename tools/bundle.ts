// Makes one set of files of each command, which starts in half the time of the sources: `node tools/bundle.ts`.
//
// They stand in a folder of their own below .cache/bundle, named after what is in it, and `current` points there: a
// daemon that runs still loads parts on demand, so what it runs from is not exchanged under it. bin/launch.sh passes
// over a bundle that is older than any source.
import { createHash } from "node:crypto";
import { existsSync, globSync } from "node:fs";
import {
  chmod,
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { basename, join, relative, resolve } from "node:path";
import { build, type OutputFile, type Plugin } from "esbuild";

const project = resolve(import.meta.dirname, "..");
const bundles = join(project, ".cache/bundle");
/** Those that daemons and supervisors started before may still load from, beside the new one. */
const kept = 3;

const workerUrl = /new URL\("\.\/([\w-]+-worker)\.ts", import\.meta\.url\)/g;
const started = new Date();
const commands = globSync("src/cmd/*/main.ts", { cwd: project });
const workers = globSync("src/**/*-worker.ts", { cwd: project });

// Each apart, so that none loads what two have in common from a third file.
const builds = await Promise.all([
  ...commands.map((path) => bundle(path, path.split("/").at(-2) ?? path)),
  ...workers.map((path) => bundle(path, basename(path, ".ts"))),
]);
await write(builds.flat());

async function bundle(source: string, name: string): Promise<readonly OutputFile[]> {
  const { outputFiles } = await build({
    absWorkingDir: project,
    entryPoints: [{ in: source, out: name }],
    outdir: bundles,
    chunkNames: "[name]-[hash]",
    bundle: true,
    splitting: true,
    write: false,
    format: "esm",
    platform: "node",
    target: "esnext",
    // The one is native and has to lie in its own folder; the other is of the older module system, whose names a bundle
    // does not know, and loaded only when a registry is asked.
    external: ["koffi", "undici"],
    plugins: [besideTheBundle()],
    logLevel: "warning",
  });
  return outputFiles;
}

/** What sources find by their own place they find beside the bundle, or need not look for. */
function besideTheBundle(): Plugin {
  return {
    name: "beside-the-bundle",
    setup(bundler) {
      bundler.onLoad({ filter: /\/src\/pkg\/direct-imports\.ts$/ }, () => ({
        loader: "ts",
        contents: "export function resolveDirectly(): void {}\n",
      }));
      bundler.onLoad(
        { filter: /\/src\/(pkg|core|shim|plugins|cmd)\/.*\.ts$/ },
        async ({ path }) => ({
          loader: "ts",
          contents: (await readFile(path, "utf8")).replaceAll(
            workerUrl,
            'new URL("./$1.js", import.meta.url)',
          ),
        }),
      );
    },
  };
}

async function write(files: readonly OutputFile[]): Promise<void> {
  const hash = createHash("sha256");
  for (const { path, contents } of files) hash.update(`${path}\0`).update(contents);
  const name = hash.digest("hex").slice(0, 16);
  const folder = join(bundles, name);
  await mkdir(bundles, { recursive: true });
  // Two may build at once. What a build that was broken off leaves goes as old bundles do.
  const own = await mkdtemp(join(bundles, "new-"));
  for (const { path, contents } of files) {
    await writeFile(join(own, relative(bundles, path)), contents);
  }
  await chmod(own, 0o755);
  if (!existsSync(folder)) await rename(own, folder);
  // As old as the sources were when they were read.
  await utimes(folder, started, started);
  await symlink(name, `${own}-link`);
  await rename(`${own}-link`, join(bundles, "current"));
  await rm(own, { recursive: true, force: true });
  await removeOld();
}

async function removeOld(): Promise<void> {
  const folders = globSync("*/", { cwd: bundles }).map((name) => name.replace(/\/$/, ""));
  const dated = await Promise.all(
    folders
      .filter((name) => name !== "current")
      .map(async (name) => ({ name, at: (await stat(join(bundles, name))).mtimeMs })),
  );
  const old = dated.toSorted((a, b) => b.at - a.at).slice(kept + 1);
  for (const { name } of old) await rm(join(bundles, name), { recursive: true, force: true });
}
