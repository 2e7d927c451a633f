import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { compareTrees } from "#pkg/archive/compare-trees.ts";
import { copyTree } from "#pkg/archive/copy-tree.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";
import type { Fd } from "#pkg/sys/syscall.ts";
import { isErrno } from "#pkg/errors.ts";
import { apply, factsOf, merged, needsRoot, overlay, scratch } from "./layer.ts";

/** Something done to a tree; what cannot be done there is left. */
interface Step {
  readonly what: "write" | "mkdir" | "remove" | "symlink" | "link" | "chmod" | "chown" | "move";
  readonly at: string;
  readonly other: string;
  readonly text: string;
  readonly mode: number;
}

const name = fc.constantFrom("a", "b", "c", "\u00e9", ".wh", "a b");
const where = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
const step: fc.Arbitrary<Step> = fc.record({
  what: fc.constantFrom("write", "mkdir", "remove", "symlink", "link", "chmod", "chown", "move"),
  at: where,
  other: where,
  text: fc.string({ maxLength: 20 }),
  mode: fc.constantFrom(0o600, 0o644, 0o755, 0o4755, 0o1777, 0),
});
const steps = fc.array(step, { maxLength: 25 });

function take(root: string, { what, at, other, text, mode }: Step): void {
  const file = path.join(root, at);
  switch (what) {
    case "write":
      // A file of its own: a hard link is to keep what it has.
      fs.rmSync(file, { force: true });
      return fs.writeFileSync(file, text, { mode });
    case "mkdir":
      return fs.mkdirSync(file);
    case "remove":
      return fs.rmSync(file, { recursive: true });
    case "symlink":
      return fs.symlinkSync(other, file);
    case "link":
      return fs.linkSync(path.join(root, other), file);
    case "chmod":
      // Not through a symlink, whose target may be anywhere.
      return fs.lstatSync(file).isSymbolicLink() ? undefined : fs.chmodSync(file, mode);
    case "chown":
      return fs.lchownSync(file, mode, 1000);
    case "move":
      return fs.renameSync(path.join(root, other), file);
  }
}

const impossible = [
  "ENOENT",
  "EEXIST",
  "ENOTDIR",
  "EISDIR",
  "EPERM",
  "ELOOP",
  "ENOTEMPTY",
  "EINVAL",
  "ERR_FS_EISDIR",
] as const;

function takeAll(root: string, all: readonly Step[]): void {
  for (const one of all) {
    try {
      take(root, one);
    } catch (error) {
      if (!isErrno(error, ...impossible)) throw error;
    }
  }
}

function withBoth<T>(a: string, b: string, use: (a: Fd, b: Fd) => T): T {
  const flags = O.RDONLY | O.DIRECTORY;
  using opened = new DisposableStack();
  const open = (dir: string): Fd => {
    return opened.adopt(linux.openat(AT.FDCWD, dir, flags), (fd) => linux.close(fd));
  };
  return use(open(a), open(b));
}

function layerBetween(lower: string, upper: string): Buffer {
  return withBoth(lower, upper, (a, b) => {
    return Buffer.concat([...compareTrees(linux, { lower: a, upper: b })]);
  });
}

function copy(from: string, to: string): void {
  fs.mkdirSync(to);
  withBoth(from, to, (a, b) => copyTree(linux, a, b, () => {}));
}

/** Everything but times of directories, which are part of no change; names of one file share a number. */
function seen(root: string): Record<string, unknown> {
  const inodes = new Map<number, number>();
  const { ".": _, ...facts } = factsOf(root);
  const all = Object.entries(facts).map(([at, fact]) => {
    const stat = fs.lstatSync(Buffer.from(path.posix.join(root, at), "latin1"));
    const number = inodes.get(stat.ino) ?? inodes.size;
    inodes.set(stat.ino, number);
    const mtime = stat.isDirectory() ? undefined : Math.floor(stat.mtimeMs / 1000);
    return [at, { ...fact, number, mtime }] as const;
  });
  return Object.fromEntries(all);
}

describe("the layer between two random trees", { skip: needsRoot }, () => {
  test("makes the upper one of the lower one, and is empty between equal ones", async () => {
    await fc.assert(
      fc.asyncProperty(steps, steps, async (first, then) => {
        using dir = scratch();
        const [lower, upper, target] = ["l", "u", "t"].map((n) => path.join(dir.path, n));
        assert.ok(lower && upper && target);
        fs.mkdirSync(lower);
        takeAll(lower, first);
        copy(lower, upper);
        copy(lower, target);
        takeAll(upper, then);
        const layer = layerBetween(lower, upper);
        await apply(target, layer, merged);
        assert.deepEqual(seen(target), seen(upper));
        assert.equal(layerBetween(upper, upper).length, 1024);
        assert.ok(layerBetween(lower, upper).equals(layer));
      }),
      { numRuns: 100 },
    );
  });

  test("makes it as an overlay's upper directory too", async () => {
    await fc.assert(
      fc.asyncProperty(steps, steps, async (first, then) => {
        using dir = scratch();
        const names = ["lower", "upper", "own", "work", "merged"];
        const [lower, upper, own, work, mnt] = names.map((n) => path.join(dir.path, n));
        assert.ok(lower && upper && own && work && mnt);
        for (const made of [lower, own, work, mnt]) fs.mkdirSync(made);
        takeAll(lower, first);
        copy(lower, upper);
        takeAll(upper, then);
        await apply(own, layerBetween(lower, upper), { ...overlay, parents: [lower] });
        const data = `lowerdir=${lower},upperdir=${own},workdir=${work},index=off`;
        linux.mount(mnt, { source: "overlay", fstype: "overlay", flags: 0, data });
        try {
          assert.deepEqual(withoutNumbers(seen(mnt)), withoutNumbers(seen(upper)));
        } finally {
          linux.umount2(mnt, 0);
        }
      }),
      { numRuns: 40 },
    );
  });
});

/** Through an overlay a lower file's other names may have numbers of their own. */
function withoutNumbers(all: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(all).map(([at, fact]) => [at, { ...(fact as object), number: 0 }]),
  );
}
