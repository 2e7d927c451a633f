import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { describe, test } from "node:test";
import { compareTrees, type CompareTreesOptions } from "#pkg/archive/compare-trees.ts";
import type { TarEntry } from "#pkg/archive/tar-entry.ts";
import { TarReader } from "#pkg/archive/tar-reader.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";
import { needsRoot, scratch } from "./layer.ts";

/** A tree below a directory, or a change to it. */
type Change = (root: string) => void;

const at =
  (use: (file: string) => void, name: string): Change =>
  (root) =>
    use(path.join(root, name));
const mkdir = (name: string, mode = 0o755): Change =>
  at((dir) => {
    fs.mkdirSync(dir, { recursive: true });
    fs.chmodSync(dir, mode);
  }, name);
const write = (name: string, text: string, mode = 0o644): Change =>
  at((file) => {
    fs.writeFileSync(file, text);
    fs.chmodSync(file, mode);
  }, name);
const chmod = (name: string, mode: number): Change => at((file) => fs.chmodSync(file, mode), name);
const remove = (name: string): Change => at((file) => fs.rmSync(file, { recursive: true }), name);
const link = (from: string, to: string): Change => {
  return (root) => fs.linkSync(path.join(root, from), path.join(root, to));
};

interface Case {
  readonly title: string;
  readonly lower: readonly Change[];
  readonly upper: readonly Change[];
  /** `TYPE NAME MODE`, and what a link is to or a file holds. */
  readonly entries: readonly string[];
}

const cases: readonly Case[] = [
  { title: "nothing", lower: [mkdir("etc")], upper: [], entries: [] },
  {
    title: "parents are included, with what they are",
    lower: [mkdir("d1"), mkdir("d2", 0o770)],
    upper: [mkdir("d1/d", 0o700), write("d2/f", "ok")],
    entries: ["directory d1/ 755", "directory d1/d/ 700", "directory d2/ 770", "file d2/f 644 ok"],
  },
  {
    title: "a directory whose mode changed",
    lower: [mkdir("d1"), mkdir("d2", 0o770)],
    upper: [chmod("d1", 0o777), mkdir("d1/d", 0o700), write("d2/f", "ok")],
    entries: ["directory d1/ 777", "directory d1/d/ 700", "directory d2/ 770", "file d2/f 644 ok"],
  },
  {
    title: "new names of old files bring the old names and their parents along",
    lower: [
      mkdir("d1"),
      write("d1/f1", "link me"),
      mkdir("d2"),
      write("d2/f1", "link me"),
      mkdir("d3"),
      mkdir("d4"),
      write("d4/f1", "link me"),
      mkdir("d5"),
      write("d5/f1", "link me"),
      mkdir("d6"),
      link("d1/f1", "d6/l1"),
      link("d5/f1", "d6/l2"),
    ],
    upper: [link("d1/f1", "d2/l1"), link("d4/f1", "d3/l1"), remove("d6/l1"), remove("d6/l2")],
    entries: [
      "directory d2/ 755",
      "file d2/l1 644 link me",
      "directory d1/ 755",
      "link d1/f1 644 d2/l1",
      "directory d3/ 755",
      "file d3/l1 644 link me",
      "directory d4/ 755",
      "link d4/f1 644 d3/l1",
      "directory d6/ 755",
      "file d6/.wh.l1 0",
      "file d6/.wh.l2 0",
    ],
  },
  {
    title: "a parent that changed itself comes once",
    lower: [
      mkdir("d1"),
      write("d1/f1", "link me"),
      mkdir("d2"),
      mkdir("d3"),
      write("d3/f1", "link me"),
      mkdir("d4"),
    ],
    upper: [chmod("d1", 0o777), link("d1/f1", "d2/l1"), chmod("d4", 0o777), link("d3/f1", "d4/l1")],
    entries: [
      "directory d1/ 777",
      "directory d2/ 755",
      "file d2/l1 644 link me",
      "link d1/f1 644 d2/l1",
      "directory d4/ 777",
      "file d4/l1 644 link me",
      "directory d3/ 755",
      "link d3/f1 644 d4/l1",
    ],
  },
  {
    title: "whiteouts, their parents included, of a directory one",
    lower: [
      mkdir("d1"),
      write("d1/f1", "x"),
      mkdir("d2"),
      write("d2/f1", "x"),
      write("d2/f2", "x"),
      mkdir("d4"),
      write("d4/f1", "x"),
      mkdir("d5"),
      write("d5/f1", "x"),
    ],
    upper: [
      remove("d1/f1"),
      remove("d2/f1"),
      chmod("d2/f2", 0o777),
      remove("d4/f1"),
      write("d4/f0", "new"),
      remove("d5"),
      mkdir("d6"),
    ],
    entries: [
      "directory d1/ 755",
      "file d1/.wh.f1 0",
      "directory d2/ 755",
      "file d2/.wh.f1 0",
      "file d2/f2 777 x",
      "directory d4/ 755",
      "file d4/f0 644 new",
      "file d4/.wh.f1 0",
      "file .wh.d5 0",
      "directory d6/ 755",
    ],
  },
  {
    title: "a directory that became a file, and the other way",
    lower: [mkdir("a"), write("a/f", "x"), write("b", "x")],
    upper: [remove("a"), write("a", "file"), remove("b"), mkdir("b/c")],
    entries: ["file a 644 file", "directory b/ 755", "directory b/c/ 755"],
  },
  {
    title: "symlinks, fifos and devices as they are",
    lower: [at((file) => fs.symlinkSync("one", file), "s")],
    upper: [
      remove("s"),
      at((file) => fs.symlinkSync("two", file), "s"),
      at((file) => execFileSync("mkfifo", ["-m", "600", file]), "fifo"),
      at((file) => execFileSync("mknod", ["-m", "620", file, "c", "5", "70000"]), "tty"),
    ],
    entries: ["fifo fifo 600", "symlink s 777 two", "character tty 620 5:70000"],
  },
];

describe("a layer of changes", { skip: needsRoot }, () => {
  for (const { title, lower, upper, entries } of cases) {
    test(`holds ${title}`, () => {
      using trees = pair(lower, upper);
      assert.deepEqual(read(bytesOf(trees)).map(textOf), entries);
    });
  }

  test("leaves sockets out", async () => {
    using trees = pair([write("f1", "x")], [write("f2", "x")]);
    const server = net.createServer().listen(path.join(trees.upper, "s"));
    await new Promise((resolve) => void server.once("listening", resolve));
    try {
      assert.deepEqual(read(bytesOf(trees)).map(textOf), ["file f2 644 x"]);
    } finally {
      server.close();
    }
  });

  test("has no time later than SOURCE_DATE_EPOCH, and whiteouts of 1970", () => {
    const old = new Date("2022-01-01T00:00:00.75Z");
    using trees = pair(
      [write("f1", "x")],
      [
        remove("f1"),
        write("f2", "2"),
        at((file) => fs.utimesSync(file, old, old), "f2"),
        write("f3", "3"),
      ],
    );
    const epoch = BigInt(Date.parse("2022-01-23T12:34:56Z")) * 1_000_000n;
    const times = (options: Partial<CompareTreesOptions>): bigint[] => {
      return read(bytesOf(trees, options)).map(({ entry }) => entry.mtimeNs);
    };
    const seconds = 1_640_995_200_000_000_000n;
    assert.deepEqual(times({ mtimeMaxNs: epoch }), [0n, seconds, epoch]);
    assert.deepEqual(times({ mtimeMaxNs: 0n }), [0n, 0n, 0n]);
    const [, second, third = 0n] = times({});
    assert.equal(second, seconds);
    assert.ok(third > epoch && third % 1_000_000_000n === 0n);
  });

  test("keeps capabilities and no other attribute, no access time and no name of an owner", () => {
    const capability = Buffer.from("0100000200040000000000000000000000000000", "hex");
    using trees = pair(
      [],
      [
        write("ping", "x", 0o755),
        at((file) => linux.lsetxattr(file, "security.capability", capability), "ping"),
        at((file) => linux.lsetxattr(file, "user.a", Buffer.from("b")), "ping"),
      ],
    );
    const bytes = bytesOf(trees);
    const [{ entry } = { entry: undefined }] = read(bytes);
    assert.deepEqual([...(entry?.xattrs ?? [])], [["security.capability", capability]]);
    assert.equal(entry?.atimeNs, undefined);
    const records = bytes.toString("latin1", 512, 1024).replaceAll("\0", "").trim().split("\n");
    assert.match(records[0] ?? "", /^\d+ SCHILY\.xattr\.security\.capability=/);
    assert.ok(!/uname|gname|atime|ctime/.test(bytes.toString("latin1")));
    // Names of owners have their places in the header proper.
    assert.ok(bytes.subarray(1024 + 265, 1024 + 329).every((byte) => byte === 0));
  });

  test("follows from the trees alone", () => {
    const lower = [mkdir("a"), write("a/f", "1"), write("b", "2")];
    const upper = [write("b", "3"), remove("a/f"), write("a/\u00e9", "4"), write("z", "5")];
    const stamp: Change = (root) => {
      const when = new Date("2024-05-06T07:08:09Z");
      execFileSync("find", [root, "-exec", "touch", "-h", "-d", when.toISOString(), "{}", "+"]);
    };
    using one = pair(lower, [...upper, stamp]);
    // Made in another order, by other inodes.
    using two = pair(lower, [...upper.toReversed(), stamp]);
    assert.ok(bytesOf(one).equals(bytesOf(two)));
    assert.ok(bytesOf(one).equals(bytesOf(one)));
  });
});

interface Trees {
  readonly lower: string;
  readonly upper: string;
}

/** Two copies of a tree, one of them changed. */
function pair(lower: readonly Change[], upper: readonly Change[]): Trees & Disposable {
  const dir = scratch();
  const trees = { lower: path.join(dir.path, "lower"), upper: path.join(dir.path, "upper") };
  fs.mkdirSync(trees.lower);
  for (const change of lower) change(trees.lower);
  execFileSync("cp", ["-a", trees.lower, trees.upper]);
  for (const change of upper) change(trees.upper);
  return { ...trees, [Symbol.dispose]: () => dir[Symbol.dispose]() };
}

function bytesOf(trees: Trees, options: Partial<CompareTreesOptions> = {}): Buffer {
  const flags = O.RDONLY | O.DIRECTORY;
  const lower = linux.openat(AT.FDCWD, trees.lower, flags);
  const upper = linux.openat(AT.FDCWD, trees.upper, flags);
  try {
    return Buffer.concat([...compareTrees(linux, { ...options, lower, upper })]);
  } finally {
    linux.close(lower);
    linux.close(upper);
  }
}

interface ReadEntry {
  readonly entry: TarEntry;
  content: string;
}

function read(archive: Buffer): ReadEntry[] {
  const entries: ReadEntry[] = [];
  const reader = new TarReader({
    begin: (entry) => void entries.push({ entry, content: "" }),
    data(chunk) {
      const last = entries.at(-1);
      if (last) last.content += chunk.toString("latin1");
    },
    end() {},
  });
  reader.push(archive);
  reader.finish();
  return entries;
}

function textOf({ entry, content }: ReadEntry): string {
  const { type, name, mode, linkName, device } = entry;
  const isDevice = type === "character" || type === "block";
  const rest = isDevice ? `${device.major}:${device.minor}` : linkName || content;
  return `${type} ${name} ${mode.toString(8)}${rest === "" ? "" : ` ${rest}`}`;
}
