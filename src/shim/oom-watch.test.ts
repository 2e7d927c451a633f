import assert from "node:assert/strict";
import { mkdtempDisposableSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test, type TestContext } from "node:test";
import { silentLogger } from "#pkg/log.ts";
import { OomWatch } from "./oom-watch.ts";

function v1(kills: number): string {
  return `oom_kill_disable 0\nunder_oom 0\noom_kill ${kills}\n`;
}

function temporary(t: TestContext): string {
  const dir = mkdtempDisposableSync(join(tmpdir(), "oom-"));
  t.after(() => dir.remove());
  return dir.path;
}

suite("OomWatch", () => {
  test("v1: tells of kills since it looked last, and not of those before it began", (t) => {
    t.mock.timers.enable({ apis: ["setInterval"] });
    const path = temporary(t);
    const file = join(path, "memory.oom_control");
    writeFileSync(file, v1(3));
    let told = 0;
    const cgroup = { version: 1, paths: new Map([["memory", path]]) } as const;
    const watch = new OomWatch(cgroup, { logger: silentLogger, onOom: () => (told += 1) });
    t.mock.timers.tick(1000);
    assert.equal(told, 0);
    writeFileSync(file, v1(5));
    watch.check();
    t.mock.timers.tick(1000);
    assert.equal(told, 1);
    writeFileSync(file, v1(6));
    t.mock.timers.tick(1000);
    assert.equal(told, 2);
    rmSync(file);
    t.mock.timers.tick(1000);
    writeFileSync(file, v1(9));
    watch[Symbol.dispose]();
    watch.check();
    t.mock.timers.tick(5000);
    assert.equal(told, 2);
  });

  test("a successor tells of kills that its predecessor has not seen, when it looks", (t) => {
    const path = temporary(t);
    writeFileSync(join(path, "memory.events"), "low 0\noom 1\noom_kill 3\n");
    for (const [seen, times] of [
      [3n, 0],
      [2n, 1],
    ] as const) {
      const onOom = t.mock.fn();
      using watch = new OomWatch({ version: 2, path }, { logger: silentLogger, onOom, seen });
      watch.check();
      watch.check();
      assert.equal(onOom.mock.callCount(), times);
      assert.equal(watch.killsSeen, 3n);
    }
  });

  test("v2: is woken by a change of the events", async (t) => {
    const path = temporary(t);
    const file = join(path, "memory.events");
    writeFileSync(file, "low 0\noom 1\noom_kill 1\n");
    const { promise: told, resolve } = Promise.withResolvers<void>();
    using _watch = new OomWatch({ version: 2, path }, { logger: silentLogger, onOom: resolve });
    writeFileSync(file, "low 0\noom 2\noom_kill 2\n");
    // The watch alone keeps no process alive.
    const alive = setInterval(() => {}, 1000);
    t.after(() => clearInterval(alive));
    await told;
  });

  test("a cgroup without a memory controller is nothing to watch", (t) => {
    const onOom = t.mock.fn();
    using missing = new OomWatch(
      { version: 2, path: join(temporary(t), "none") },
      { logger: silentLogger, onOom },
    );
    missing.check();
    using other = new OomWatch({ version: 1, paths: new Map() }, { logger: silentLogger, onOom });
    other.check();
    assert.equal(onOom.mock.callCount(), 0);
  });
});
