import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import type { Mounter } from "#core/mount/mounter.ts";
import type { SnapshotInfo, Snapshotter } from "#core/snapshots/snapshots.ts";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { nowNanos } from "#pkg/time.ts";

export interface SuiteOptions {
  readonly mounter: Mounter;
  /** overlayfs cannot rename a directory of a lower layer. */
  readonly renamesLowerDirectories: boolean;
  /** Why nothing can run here. */
  readonly skip?: string | undefined;
}

export interface SuiteSubject extends AsyncDisposable {
  readonly snapshotter: Snapshotter;
}

/** Changes a tree; run on a snapshot and on a plain directory, which must then be equal. */
type Change = (root: string) => void;

const labels = { "containerd.io/gc.root": "snapshot-suite" };
const ctx = Context.background().withNamespace("testsuite");

/**
 * The contract of a snapshotter: upstream's 21 behaviours. Needs root. `make` is given an empty
 * directory.
 */
export function snapshotterSuite(
  name: string,
  make: (ctx: Context, root: string) => Promise<SuiteSubject>,
  options: SuiteOptions,
): void {
  const { mounter } = options;

  class Bench implements AsyncDisposable {
    readonly dir: string;
    readonly sn: Snapshotter;
    readonly #subject: SuiteSubject;
    #count = 0;

    constructor(dir: string, subject: SuiteSubject) {
      this.dir = dir;
      this.sn = subject.snapshotter;
      this.#subject = subject;
    }

    static async open(): Promise<Bench> {
      const dir = fs.mkdtempSync(path.join(tmpdir(), `snapshot-suite-${name}-`));
      fs.mkdirSync(path.join(dir, "root"));
      return new Bench(dir, await make(ctx, path.join(dir, "root")));
    }

    path(): string {
      this.#count += 1;
      const made = path.join(this.dir, `work-${this.#count}`);
      fs.mkdirSync(made, 0o755);
      return made;
    }

    /** Mounts what `key` gives, changes it, unmounts. */
    async change(key: string, change: Change): Promise<void> {
      const root = this.path();
      await mounter.mountAll(ctx, await this.sn.mounts(ctx, key), root);
      try {
        change(root);
      } finally {
        await mounter.unmountAll(ctx, root);
      }
    }

    async commit(parent: string, name: string, change: Change = () => {}): Promise<string> {
      const key = `${name}-prepare`;
      await this.sn.prepare(ctx, key, parent, { labels });
      await this.change(key, change);
      await this.sn.commit(ctx, name, key, { labels });
      return name;
    }

    /**
     * Commits one snapshot for each change and compares a view of each with a directory so changed.
     */
    async check(...changes: readonly Change[]): Promise<void> {
      const flat = this.path();
      let parent = "";
      const prefix = this.path();
      for (const [i, change] of changes.entries()) {
        parent = await this.commit(parent, `${prefix}-${i}`, change);
        change(flat);
        await this.assertView(parent, flat);
      }
    }

    async assertView(parent: string, expected: string): Promise<void> {
      const key = `${parent}-view`;
      await this.sn.view(ctx, key, parent, { labels });
      await this.change(key, (root) => assert.deepEqual(treeOf(root), treeOf(expected)));
      await this.sn.remove(ctx, key);
    }

    async list(...filters: readonly string[]): Promise<SnapshotInfo[]> {
      return Array.fromAsync(this.sn.list(ctx, filters));
    }

    async [Symbol.asyncDispose](): Promise<void> {
      await this.#subject[Symbol.asyncDispose]();
      fs.rmSync(this.dir, { recursive: true, force: true });
    }
  }

  const behaviour = (title: string, run: (bench: Bench) => Promise<void>): void => {
    test(title, { skip: options.skip ?? false }, async () => {
      await using bench = await Bench.open();
      await run(bench);
    });
  };

  describe(`snapshotter ${name}`, () => {
    let umask = 0;
    before(() => {
      umask = process.umask(0);
    });
    after(() => {
      process.umask(umask);
    });

    behaviour("basic: prepare, change, commit, view, remove", async (bench) => {
      const { sn } = bench;
      const initial: Change = (root) => {
        write(root, "foo", "foo\n", 0o777);
        fs.mkdirSync(path.join(root, "a/b/c"), { recursive: true });
      };
      const change: Change = (root) => {
        write(root, "bar", "bar\n", 0o777);
        write(root, "foo", "bar\n", 0o777);
        fs.rmSync(path.join(root, "a/b"), { recursive: true });
      };
      await bench.commit("", "one", initial);
      const one = await sn.stat(ctx, "one");
      assert.equal(one.kind, "committed");
      assert.equal(one.parent, "");
      await assert.rejects(sn.stat(ctx, "one-prepare"), isNotFound);
      await sn.prepare(ctx, "two-active", "one", { labels });
      const flat = bench.path();
      initial(flat);
      await bench.change("two-active", (root) => {
        assert.deepEqual(treeOf(root), treeOf(flat));
        change(root);
      });
      const active = await sn.stat(ctx, "two-active");
      assert.equal(active.parent, "one");
      assert.equal(active.kind, "active");
      await sn.commit(ctx, "two", "two-active", { labels });
      const two = await sn.stat(ctx, "two");
      assert.equal(two.parent, "one");
      assert.equal(two.kind, "committed");
      const listed = await bench.list();
      for (const info of [one, two]) {
        assert.deepEqual(
          listed.find((l) => l.name === info.name),
          info,
        );
      }
      change(flat);
      await bench.assertView("two", flat);
      await assert.rejects(sn.remove(ctx, "one"), /remove/);
      await sn.remove(ctx, "two");
      await sn.remove(ctx, "one");
    });

    behaviour("stat() of an active snapshot", async ({ sn }) => {
      await sn.prepare(ctx, "active", "", { labels });
      const info = await sn.stat(ctx, "active");
      assert.deepEqual([info.name, info.kind, info.parent], ["active", "active", ""]);
    });

    behaviour("stat() of a committed snapshot", async (bench) => {
      await bench.commit("", "committed", (root) => write(root, "foo", "foo\n"));
      const info = await bench.sn.stat(ctx, "committed");
      assert.deepEqual([info.name, info.kind, info.parent], ["committed", "committed", ""]);
    });

    behaviour("parents of parents are known", async (bench) => {
      await bench.commit("", "a", (root) => write(root, "foo", "foo\n"));
      await bench.commit("a", "b", (root) => write(root, "foo", "foo bar\n"));
      const b = await bench.sn.stat(ctx, "b");
      assert.equal(b.parent, "a");
      assert.equal((await bench.sn.stat(ctx, b.parent)).parent, "");
    });

    behaviour("prepare() and view() refuse a key that is taken", async (bench) => {
      const { sn } = bench;
      await bench.commit("", "a");
      await sn.prepare(ctx, "p", "a", { labels });
      await assert.rejects(sn.view(ctx, "p", "a", { labels }), isAlreadyExists);
      await assert.rejects(sn.prepare(ctx, "p", "a", { labels }), isAlreadyExists);
      await sn.view(ctx, "v", "a", { labels });
      await assert.rejects(sn.view(ctx, "v", "a", { labels }), isAlreadyExists);
    });

    behaviour("update() changes labels only", async (bench) => {
      const { sn } = bench;
      const start = nowNanos();
      await bench.commit("", "c1");
      await bench.commit("c1", "c2");
      await sn.prepare(ctx, "a1", "c2", { labels });
      await sn.prepare(ctx, "a2", "", { labels });
      await sn.view(ctx, "v1", "c2", { labels });
      await sn.view(ctx, "v2", "", { labels });
      for (const name of ["c1", "c2", "a1", "a2", "v1", "v2"]) {
        await checkUpdate(sn, name, start);
      }
    });

    behaviour("remove() frees the key, and a parent when its child is gone", async (bench) => {
      const { sn } = bench;
      await bench.commit("", "committed-1");
      await sn.prepare(ctx, "reuse", "committed-1", { labels });
      await sn.remove(ctx, "reuse");
      await sn.view(ctx, "reuse", "committed-1", { labels });
      await sn.remove(ctx, "reuse");
      await sn.prepare(ctx, "reuse", "", { labels });
      await sn.remove(ctx, "committed-1");
      await sn.commit(ctx, "committed-1", "reuse", { labels });
    });

    behaviour("list() filters by kind, name, parent and labels", checkWalk);

    behaviour("a file changed in an upper layer", async (bench) => {
      const lower: Change = (root) => {
        mkdir(root, "etc", 0o700);
        write(root, "etc/hosts", "mydomain 10.0.0.1");
        write(root, "etc/profile", "PATH=/usr/bin");
      };
      const upper: Change = (root) => {
        write(root, "etc/hosts", "mydomain 10.0.0.2");
        write(root, "etc/profile", "PATH=/usr/bin", 0o666);
        mkdir(root, "root", 0o700);
        write(root, "root/.bashrc", "PATH=/usr/sbin:/usr/bin");
      };
      for (let i = 0; i < 3; i++) await bench.check(lower, upper);
    });

    behaviour("a directory of a lower layer removed and made again", async (bench) => {
      await bench.check(
        (root) => {
          mkdir(root, "lib", 0o700);
          write(root, "lib/hidden", "");
        },
        (root) => {
          fs.rmSync(path.join(root, "lib"), { recursive: true });
          mkdir(root, "lib", 0o700);
          write(root, "lib/not-hidden", "");
        },
        (root) => write(root, "lib/newfile", ""),
      );
    });

    behaviour("owners changed in an upper layer", async (bench) => {
      const paths = ["opt", "opt/a", "opt/a/b", "opt/a/b/file.txt"];
      await bench.check(
        (root) => {
          for (const dir of paths.slice(0, 3)) mkdir(root, dir, 0o700);
          write(root, "opt/a/b/file.txt", "hello");
        },
        (root) => {
          for (const p of paths) fs.chownSync(path.join(root, p), 1, 1);
        },
      );
    });

    behaviour("permissions of directories are committed", async (bench) => {
      const own = (root: string, p: string, id: number): void => {
        fs.chownSync(path.join(root, p), id, id);
      };
      await bench.check(
        (root) => {
          for (const dir of ["dir1", "dir2", "dir3", "dir4", "dir5"]) mkdir(root, dir, 0o700);
          write(root, "dir4/f1", "...");
          write(root, "dir5/f1", "...");
          for (const p of ["dir1", "dir2", "dir3", "dir5", "dir5/f1"]) own(root, p, 1);
        },
        (root) => {
          own(root, "dir2", 0);
          fs.rmSync(path.join(root, "dir3"), { recursive: true });
          own(root, "dir4", 1);
          own(root, "dir4/f1", 1);
        },
        (root) => {
          mkdir(root, "dir3", 0o700);
          own(root, "dir3", 1);
          fs.rmSync(path.join(root, "dir5"), { recursive: true });
          mkdir(root, "dir5", 0o700);
          own(root, "dir5", 1);
        },
      );
    });

    behaviour("remove() refuses a snapshot with children", async (bench) => {
      const { sn } = bench;
      await bench.commit("", "base");
      await bench.commit("base", "inter");
      await sn.prepare(ctx, "top", "inter", { labels });
      await assert.rejects(sn.remove(ctx, "inter"), isFailedPrecondition);
      for (const key of ["top", "inter", "base"]) await sn.remove(ctx, key);
    });

    behaviour("a file deleted in a child stays deleted", async (bench) => {
      await bench.check(
        (root) => {
          write(root, "foo", "foo\n", 0o777);
          write(root, "foobar", "foobar\n", 0o777);
        },
        (root) => fs.rmSync(path.join(root, "foobar")),
        () => {},
      );
    });

    behaviour("a file of a lower layer moved", async (bench) => {
      await bench.check(
        (root) => {
          mkdir(root, "dir1", 0o700);
          write(root, "dir1/f1", "Hello");
          mkdir(root, "dir2", 0o700);
        },
        (root) => fs.renameSync(path.join(root, "dir1/f1"), path.join(root, "dir2/f1")),
      );
    });

    behaviour("a view is mounted read-only", async (bench) => {
      await bench.commit("", "committed");
      await bench.sn.view(ctx, "view", "committed", { labels });
      await bench.change("view", (root) => {
        assert.throws(() => write(root, "testfile", "testcontent"), { code: "EROFS" });
      });
    });

    behaviour("stat() works while list() runs", async (bench) => {
      const { sn } = bench;
      await bench.commit("", "c1");
      await bench.commit("c1", "c2");
      await sn.prepare(ctx, "a1", "c2", { labels });
      await sn.view(ctx, "v1", "c2", { labels });
      for await (const info of sn.list(ctx)) {
        assert.deepEqual(await sn.stat(ctx, info.name), info);
      }
    });

    behaviour("close() twice", async ({ sn }) => {
      await sn.close();
      await sn.close();
    });

    behaviour("the root directory has mode 0755", async ({ sn }) => {
      const [mount] = await sn.prepare(ctx, "active", "", { labels });
      assert.ok(mount);
      assert.equal(fs.statSync(mount.source).mode & 0o777, 0o755);
    });

    behaviour("files and directories renamed across layers", async (bench) => {
      await bench.check(
        (root) => {
          mkdir(root, "dir1", 0o700);
          mkdir(root, "somefiles", 0o700);
          write(root, "somefiles/f1", "was here first!");
          write(root, "somefiles/f2", "nothing interesting");
        },
        (root) => {
          const move = (from: string, to: string): void => {
            fs.renameSync(path.join(root, from), path.join(root, to));
          };
          if (options.renamesLowerDirectories) move("dir1", "dir2");
          write(root, "somefiles/f1-overwrite", "new content 1");
          move("somefiles/f1-overwrite", "somefiles/f1");
          move("somefiles/f2", "somefiles/f3");
        },
      );
    });

    behaviour("128 layers mount", async (bench) => {
      const { sn } = bench;
      const flat = bench.path();
      let parent = "";
      for (let i = 0; i < 128; i++) {
        const change: Change = (root) => {
          if (i === 0) {
            for (const dir of ["addhere", "onlyme"]) mkdir(root, dir, 0o755);
          }
          write(root, "overwriteme", `${i} WAS HERE!\n`, 0o777);
          write(root, `addhere/file-${i}`, "same\n", 0o755);
          fs.rmSync(path.join(root, "onlyme"), { recursive: true });
          mkdir(root, "onlyme", 0o755);
          write(root, `onlyme/file-${i}`, "only me!\n", 0o777);
        };
        await sn.prepare(ctx, `prepare-${i}`, parent, { labels });
        await bench.change(`prepare-${i}`, (root) => {
          change(flat);
          change(root);
          assert.deepEqual(treeOf(root), treeOf(flat));
        });
        parent = `committed-${i}`;
        await sn.commit(ctx, parent, `prepare-${i}`, { labels });
      }
      await bench.assertView(parent, flat);
    });

    async function checkWalk({ sn }: Bench): Promise<void> {
      const labelled = (l: string): { labels: Record<string, string> } => ({
        labels: { ...labels, l },
      });
      await sn.prepare(ctx, "a-np", "", { labels });
      await sn.prepare(ctx, "p-tmp", "", { labels });
      await sn.commit(ctx, "p", "p-tmp", { labels });
      await sn.prepare(ctx, "a", "p", { labels });
      await sn.view(ctx, "v", "p", { labels });
      await sn.prepare(ctx, "p-wl-tmp", "", { labels });
      await sn.commit(ctx, "p-wl", "p-wl-tmp", labelled("1"));
      await sn.prepare(ctx, "a-wl", "p-wl", labelled("2"));
      await sn.view(ctx, "v-wl", "p-wl", labelled("3"));
      await sn.prepare(ctx, "a-np-wl", "", labelled("2"));
      const rooted = 'labels."containerd.io/gc.root"==snapshot-suite';
      const cases: readonly (readonly [names: string, ...filters: string[]])[] = [
        ["a a-np a-np-wl a-wl p p-wl v v-wl", rooted],
        ["a a-np a-np-wl a-wl", `kind==active,${rooted}`],
        ["v v-wl", `kind==view,${rooted}`],
        ["p p-wl", `kind==committed,${rooted}`],
        ["a-np-wl p", "name==p", "name==a-np-wl"],
        ["a-wl", "name==a-wl,labels.l"],
        ["a v", "parent==p"],
        ["a a-wl v v-wl", `parent!="",${rooted}`],
        ["a-np-wl a-wl p-wl v-wl", "labels.l"],
        ["a-np-wl a-wl", "labels.l==2"],
      ];
      for (const [names, ...filters] of cases) {
        const infos = await Array.fromAsync(sn.list(ctx, filters));
        const found = infos.map((info) => info.name).sort();
        assert.equal(found.join(" "), names, filters.join(" or "));
      }
    }
  });
}

async function checkUpdate(sn: Snapshotter, name: string, start: bigint): Promise<void> {
  const before = await sn.stat(ctx, name);
  assert.ok(before.createdAt >= start && before.createdAt <= nowNanos());
  assert.equal(before.updatedAt, before.createdAt);
  const all = { l1: "v1", l2: "v2", l3: "v3", ...labels };
  const replaced = await sn.update(ctx, { name, labels: all });
  assert.deepEqual(replaced.labels, all);
  assert.equal(replaced.createdAt, before.createdAt);
  assert.ok(replaced.updatedAt > before.updatedAt);
  assert.deepEqual([replaced.kind, replaced.parent], [before.kind, before.parent]);
  const given = { l1: "updated", l4: "v4" };
  const masked = await sn.update(ctx, { name, labels: given }, ["labels.l1", "labels.l2"]);
  assert.deepEqual(masked.labels, { l1: "updated", l3: "v3", ...labels });
  const whole = await sn.update(ctx, { name, labels: { l4: "v4", ...labels } }, ["labels"]);
  assert.deepEqual(whole.labels, { l4: "v4", ...labels });
  await assert.rejects(
    sn.update(ctx, { name, labels: {} }, ["parent"]),
    (error) => codeOf(error) === "invalid-argument",
  );
}

const isNotFound = (error: unknown): boolean => codeOf(error) === "not-found";
const isAlreadyExists = (error: unknown): boolean => codeOf(error) === "already-exists";
const isFailedPrecondition = (error: unknown): boolean => codeOf(error) === "failed-precondition";

function write(root: string, name: string, content: string, mode = 0o644): void {
  fs.writeFileSync(path.join(root, name), content);
  fs.chmodSync(path.join(root, name), mode);
}

function mkdir(root: string, name: string, mode: number): void {
  fs.mkdirSync(path.join(root, name), { recursive: true });
  fs.chmodSync(path.join(root, name), mode);
}

/** Type, mode, owner and content of everything in a tree, by path. */
export function treeOf(root: string): Record<string, string> {
  const tree: Record<string, string> = {};
  const names = fs.readdirSync(root, { recursive: true, encoding: "utf8" });
  for (const name of [".", ...names]) {
    const file = path.join(root, name);
    const stat = fs.lstatSync(file);
    const content = stat.isFile()
      ? createHash("sha256").update(fs.readFileSync(file)).digest("hex")
      : stat.isSymbolicLink()
        ? fs.readlinkSync(file)
        : "";
    tree[name] = [stat.mode.toString(8), stat.uid, stat.gid, stat.rdev, content].join(" ");
  }
  return tree;
}
