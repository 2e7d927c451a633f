import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "#pkg/errors.ts";
import { run } from "#test/support/command.ts";
import { until } from "#test/support/processes.ts";
import { forgetRefusals, runtimeRefusal } from "#test/support/runtime-probe.ts";

const unified = "/sys/fs/cgroup/unified";

/**
 * Lets crun start containers on a test machine whose cgroups it refuses, and says what it changed.
 *
 * crun refuses a hybrid hierarchy while the version 2 half still holds a controller: hugetlb, which goes to version 1.
 * Does nothing where crun works or is not installed. `npm run hello` never calls this: it uses runc instead.
 */
export async function prepareHost(say: (line: string) => void): Promise<void> {
  const refusal = runtimeRefusal("crun");
  if (refusal === undefined || !(await unifiedControllers()).includes("hugetlb")) return;
  say(`${refusal}: moving the hugetlb controller to cgroup v1 for it`);
  await removeEmptyCgroups(unified);
  await writeFile(join(unified, "cgroup.subtree_control"), "-hugetlb");
  await mkdir("/sys/fs/cgroup/hugetlb", { recursive: true });
  // The kernel lets go of the controller a little after its last cgroup has gone.
  await until("the hugetlb controller can be mounted as cgroup v1", async () => {
    const mount = "mount -t cgroup -o hugetlb cgroup /sys/fs/cgroup/hugetlb";
    return (await run(mount.split(" "))).code === 0;
  });
  forgetRefusals();
}

async function unifiedControllers(): Promise<string[]> {
  const path = join(unified, "cgroup.controllers");
  if (!existsSync(path)) return [];
  return (await readFile(path, "utf8")).trim().split(" ");
}

async function removeEmptyCgroups(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const child = join(path, entry.name);
    await removeEmptyCgroups(child);
    try {
      await rmdir(child);
    } catch (error) {
      if (!isErrno(error, "EBUSY", "ENOENT")) throw error;
    }
  }
}
