import { isAbsolute } from "node:path";
import type { PodSandboxConfig } from "#cri/pod-sandbox-config.ts";
import { podMappings } from "#cri/podsandbox/user-namespace.ts";
import type { SandboxMetadata } from "#cri/sandbox-metadata.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { quote } from "#pkg/log-format.ts";

/** The kernel's: `struct new_utsname`. */
const hostnameMax = 64;
const pathMax = 4096;
/** runc takes no greater ones. */
const idMax = 2n ** 31n - 1n;
const sysctlsMax = 1024;

/**
 * Refuses what could not become a sandbox, or could become more than that: names of files that
 * climb, lines within what is to be one line.
 *
 * Throws `invalid-argument` naming field and value. What only the runtime can judge is left to it.
 */
export function assertSandboxConfig({ config, netnsPath }: SandboxMetadata): void {
  const { hostname, dns, cgroupParent, security } = config;
  if (Buffer.byteLength(hostname) > hostnameMax) {
    throw refused("hostname", hostname, `longer than ${hostnameMax} bytes`);
  }
  assertOneWord("hostname", hostname);
  for (const field of ["servers", "searches", "options"] as const) {
    for (const value of dns?.[field] ?? []) assertOneLine(`dns_config.${field}`, value);
  }
  assertCgroupParent(cgroupParent);
  assertSysctls(config.sysctls);
  assertNetnsPath(netnsPath);
  podMappings(security.user);
  for (const [field, id] of [
    ["run_as_user", security.runAsUser],
    ["run_as_group", security.runAsGroup],
    ...security.supplementalGroups.map((group) => ["supplemental_groups", group] as const),
  ] as const) {
    if (id !== undefined && (id < 0n || id > idMax)) throw refused(field, String(id), "no such id");
  }
  assertSelinuxLevel(security.selinuxLevel);
}

/** Below a hierarchy, and nowhere else. */
function assertCgroupParent(path: string): void {
  const field = "linux.cgroup_parent";
  assertOneLine(field, path);
  if (path.length > pathMax) throw refused(field, path, `longer than ${pathMax} characters`);
  if (path.split("/").includes("..")) throw refused(field, path, "it climbs");
}

function assertSysctls(sysctls: PodSandboxConfig["sysctls"]): void {
  const entries = Object.entries(sysctls);
  if (entries.length > sysctlsMax) {
    throw invalidArgument(`linux.sysctls: more than ${sysctlsMax}`);
  }
  for (const [name, value] of entries) {
    // Runtimes make a path of it; dots and slashes may stand for each other.
    if (!/^[\w@:-]+(?:[./][\w@:-]+)*$/.test(name) || name.length > pathMax) {
      throw refused("linux.sysctls", name, "not the name of a sysctl");
    }
    assertOneLine(`linux.sysctls.${name}`, value);
  }
}

function assertNetnsPath(path: string): void {
  if (path === "") return;
  const field = "network namespace path";
  assertOneLine(field, path);
  if (path.length > pathMax) throw refused(field, path, `longer than ${pathMax} characters`);
  if (!isAbsolute(path)) throw refused(field, path, "not absolute");
}

function assertSelinuxLevel(level: string): void {
  const categories = "c\\d{1,4}(?:\\.c\\d{1,4})?";
  const form = new RegExp(`^s\\d(?:-s\\d)?(?::${categories}(?:,${categories})*)?$`);
  if (level === "" || form.test(level)) return;
  throw invalidArgument(`the format of 'level' ${quote(level.slice(0, 100))} is not correct`);
}

function assertOneWord(field: string, value: string): void {
  assertOneLine(field, value);
  if (/\s/.test(value)) throw refused(field, value, "it has a space");
}

function assertOneLine(field: string, value: string): void {
  // oxlint-disable-next-line eslint/no-control-regex -- they are what is looked for
  if (/[\0-\x08\x0a-\x1f\x7f]/.test(value)) throw refused(field, value, "control character");
}

function refused(field: string, value: string, why: string): Error {
  const shown = value.length > 100 ? `${value.slice(0, 100)}..` : value;
  return invalidArgument(`${field} ${JSON.stringify(shown)}: ${why}`);
}
