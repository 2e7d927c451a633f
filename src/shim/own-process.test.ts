import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { FakeSyscalls } from "#pkg/sys/fake.ts";
import { createSchedCore, joinCgroup } from "./own-process.ts";

/** Hierarchies in a folder, each with the cgroups named. */
function hierarchies(
  t: TestContext,
  mounts: Readonly<Record<string, { type: string; cgroups: readonly string[] }>>,
): { mountinfo: string; procs: (name: string, cgroup: string) => string } {
  const dir = mkdtempSync(join(tmpdir(), "cgroups-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const lines = Object.entries(mounts).map(([name, { type, cgroups }]) => {
    for (const cgroup of cgroups) {
      mkdirSync(join(dir, name, cgroup), { recursive: true });
      writeFileSync(join(dir, name, cgroup, "cgroup.procs"), "");
    }
    return `30 23 0:26 / ${join(dir, name)} rw shared:9 - ${type} ${type} rw,${name}`;
  });
  return {
    mountinfo: lines.join("\n"),
    procs: (name, cgroup) => readFileSync(join(dir, name, cgroup, "cgroup.procs"), "utf8"),
  };
}

test("version 1: the cgroup is joined in each hierarchy that has it", (t) => {
  const { mountinfo, procs } = hierarchies(t, {
    cpu: { type: "cgroup", cgroups: ["shims", "other"] },
    memory: { type: "cgroup", cgroups: ["shims"] },
    pids: { type: "cgroup", cgroups: ["other"] },
    unified: { type: "cgroup2", cgroups: ["shims"] },
  });
  joinCgroup("/shims", 42, mountinfo);
  assert.deepEqual([procs("cpu", "shims"), procs("memory", "shims")], ["42", "42"]);
  assert.deepEqual([procs("cpu", "other"), procs("pids", "other")], ["", ""]);
  assert.equal(procs("unified", "shims"), "");
});

test("version 2: the one there is", (t) => {
  const { mountinfo, procs } = hierarchies(t, {
    unified: { type: "cgroup2", cgroups: ["a/shims"] },
  });
  joinCgroup("/a/shims", 42, mountinfo);
  assert.equal(procs("unified", "a/shims"), "42");
});

test("a cgroup that is not there is an error in upstream's words", (t) => {
  const v1 = hierarchies(t, { cpu: { type: "cgroup", cgroups: ["other"] } });
  assert.throws(() => joinCgroup("/no", 42, v1.mountinfo), {
    message: "failed to load cgroup /no: cgroup deleted",
  });
  const v2 = hierarchies(t, { unified: { type: "cgroup2", cgroups: ["other"] } });
  assert.throws(
    () => joinCgroup("/no", 42, v2.mountinfo),
    /^CodedError: failed to join cgroup \/no: /,
  );
});

test("a core-scheduling cookie is for the process group; a kernel without says so", () => {
  const kernel = new FakeSyscalls().on("prctl", () => 0);
  createSchedCore(kernel.sys);
  assert.deepEqual(kernel.callsOf("prctl"), [[62, 1, 0, 2]]);
  kernel.failOnce("prctl", "EINVAL");
  assert.throws(() => createSchedCore(kernel.sys), /enable sched core support: /);
});
