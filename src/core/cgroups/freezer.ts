import { type Cgroup, CgroupFiles } from "#core/cgroups/cgroup.ts";

/**
 * Whether somebody has frozen the cgroup itself, be it done already or not; one above it does not
 * count. Undefined where there is no freezer, or no such cgroup any more.
 */
export function isFrozen(cgroup: Cgroup): boolean | undefined {
  const path = cgroup.version === 2 ? cgroup.path : cgroup.paths.get("freezer");
  if (path === undefined) return undefined;
  const file = cgroup.version === 2 ? "cgroup.freeze" : "freezer.self_freezing";
  const text = new CgroupFiles(path).text(file);
  return text === undefined ? undefined : text.trim() === "1";
}
