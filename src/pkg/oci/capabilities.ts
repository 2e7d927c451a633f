import { readFile } from "node:fs/promises";
import { invalidArgument } from "#pkg/errors.ts";
import type { Capabilities } from "#pkg/oci/runtime-spec.ts";
import { editProcess, type SpecOption } from "#pkg/oci/spec-options.ts";

/** By number, as the kernel counts them; the last is of Linux 5.9. */
export const knownCapabilities: readonly string[] = (
  "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE " +
  "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO " +
  "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME " +
  "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG " +
  "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
  .split(" ")
  .map((name) => `CAP_${name}`);

/** What a container's root has unless somebody says otherwise. */
export const defaultCapabilities: readonly string[] = (
  "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP " +
  "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
)
  .split(" ")
  .map((name) => `CAP_${name}`);

function editCapabilities(edit: (capabilities: Capabilities) => Capabilities): SpecOption {
  return editProcess((process) => ({
    ...process,
    capabilities: edit(process.capabilities ?? {}),
  }));
}

/** These and no others. What was inheritable stays so only as far as it is among them. */
export function withCapabilities(names: readonly string[]): SpecOption {
  return editCapabilities(({ inheritable, ...given }) => {
    const kept = inheritable?.filter((name) => names.includes(name)) ?? [];
    return {
      ...given,
      bounding: names,
      effective: names,
      permitted: names,
      ...(kept.length > 0 && { inheritable: kept }),
    };
  });
}

/** Adds to all sets but the inheritable: what a container's children get they get by their files. */
export function withAddedCapabilities(names: readonly string[]): SpecOption {
  const add = (set: readonly string[] = []): string[] => [...new Set([...set, ...names])];
  return editCapabilities((given) => ({
    ...given,
    bounding: add(given.bounding),
    effective: add(given.effective),
    permitted: add(given.permitted),
  }));
}

export function withDroppedCapabilities(names: readonly string[]): SpecOption {
  const drop = (set: readonly string[] = []): string[] =>
    set.filter((name) => !names.includes(name));
  return editCapabilities((given) => ({
    ...given,
    bounding: drop(given.bounding),
    effective: drop(given.effective),
    permitted: drop(given.permitted),
    ...(given.inheritable && { inheritable: drop(given.inheritable) }),
  }));
}

/** For users other than root: capabilities that survive an exec. The kernel asks for them to be inheritable. */
export function withAmbientCapabilities(names: readonly string[]): SpecOption {
  return editCapabilities((given) => ({ ...given, inheritable: names, ambient: names }));
}

const setOf = {
  CapInh: "inheritable",
  CapPrm: "permitted",
  CapEff: "effective",
  CapBnd: "bounding",
  CapAmb: "ambient",
} as const;

/**
 * The capability sets in the text of `/proc/PID/status`, as bits; a set that it does not name is
 * left out. Throws `invalid-argument` for one that is no number of 64 bits.
 */
export function parseProcStatus(
  text: string,
): Readonly<Partial<Record<keyof Capabilities, bigint>>> {
  const found: Partial<Record<keyof Capabilities, bigint>> = {};
  for (const line of text.split("\n")) {
    const at = line.indexOf(":");
    const key = line.slice(0, Math.max(0, at)).trim();
    if (!Object.hasOwn(setOf, key)) continue;
    const value = line.slice(at + 1).trim();
    if (!/^[0-9A-Fa-f]{1,64}$/.test(value) || BigInt(`0x${value}`) >> 64n !== 0n) {
      throw invalidArgument(`failed to parse line ${JSON.stringify(line.slice(0, 100))}`);
    }
    found[setOf[key as keyof typeof setOf]] = BigInt(`0x${value}`); // -- just seen to be a key
  }
  return found;
}

/** Names of the bits; those of a kernel newer than these names are left out. */
export function capabilitiesOf(bits: bigint): string[] {
  return knownCapabilities.filter((_, i) => ((bits >> BigInt(i)) & 1n) === 1n);
}

/** What this process may do, which is as much as it can give to a privileged container. */
export async function currentCapabilities(): Promise<string[]> {
  const { effective = 0n } = parseProcStatus(await readFile("/proc/self/status", "utf8"));
  return capabilitiesOf(effective);
}
