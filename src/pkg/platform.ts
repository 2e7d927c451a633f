import { endianness } from "node:os";
import { invalidArgument } from "#pkg/errors.ts";

/** What an image runs on (OCI image-spec, image index). Absent and empty mean the same. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string | undefined;
  readonly osVersion?: string | undefined;
  readonly osFeatures?: readonly string[] | undefined;
}

const knownOs = new Set(
  (
    "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 " +
    "solaris windows zos"
  ).split(" "),
);
const knownArchitectures = new Set(
  (
    "386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 " +
    "mips64le mips64p32 mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm"
  ).split(" "),
);

const osForm = /^(?<os>[A-Za-z0-9_-]+)(?:\((?<version>[A-Za-z0-9_.-]*)\))?$/;
const partForm = /^[A-Za-z0-9_.-]+$/;

/**
 * Parses `OS`, `ARCH`, `OS/ARCH` or `OS/ARCH/VARIANT`, the first part possibly `OS(VERSION)`.
 *
 * What is left out is the host's. Aliases are normalised; `linux/arm64/v8` keeps its variant, which
 * formatting shows and matching does not mind. Throws `invalid-argument` with upstream's words.
 */
export function parsePlatform(specifier: string, host: Platform = hostPlatform()): Platform {
  const quoted = JSON.stringify(specifier);
  if (specifier.includes("*")) throw invalidArgument(`${quoted}: wildcards not yet supported`);
  const [first = "", ...rest] = specifier.split("/", 5);
  const found = osForm.exec(first)?.groups;
  if (!found) {
    throw invalidArgument(
      `${JSON.stringify(first)} is an invalid OS component of ${quoted}: OSAndVersion specifier ` +
        `component must match ${JSON.stringify("^([A-Za-z0-9_-]+)(?:\\(([A-Za-z0-9_.-]*)\\))?$")}`,
    );
  }
  for (const part of rest) {
    if (partForm.test(part)) continue;
    throw invalidArgument(
      `${JSON.stringify(part)} is an invalid component of ${quoted}: platform specifier ` +
        `component must match ${JSON.stringify(partForm.source)}`,
    );
  }
  const os = normalizeOs(found["os"] ?? "", host);
  const version = found["version"] ?? "";
  const [architecture, variant, ...more] = rest;
  if (more.length > 0) throw invalidArgument(`${quoted}: cannot parse platform specifier`);
  if (architecture === undefined) return parseSingle(first, os, version, host);
  const [arch, normalized] = normalizeArchitecture(architecture, variant ?? "");
  if (variant !== undefined) {
    const shown = arch === "arm64" && normalized === "" ? "v8" : normalized;
    return platform(os, version, arch, shown);
  }
  return platform(os, version, arch, shownVariant(arch, normalized));
}

/** One word is an operating system where it is the name of one, and otherwise an architecture. */
function parseSingle(word: string, os: string, version: string, host: Platform): Platform {
  if (knownOs.has(os)) {
    const isOldArm = host.architecture === "arm" && host.variant !== "v7";
    return platform(os, version, host.architecture, isOldArm ? (host.variant ?? "") : "");
  }
  const [arch, variant] = normalizeArchitecture(word, "");
  if (!knownArchitectures.has(arch)) {
    const quoted = JSON.stringify(word);
    throw invalidArgument(`${quoted}: unknown operating system or architecture`);
  }
  return platform(host.os, "", arch, shownVariant(arch, variant));
}

/** 32-bit ARM is v7 unless it says otherwise. */
function shownVariant(architecture: string, variant: string): string {
  return architecture === "arm" && variant === "v7" ? "" : variant;
}

function platform(os: string, osVersion: string, architecture: string, variant: string): Platform {
  return {
    os,
    architecture,
    ...(variant !== "" && { variant }),
    ...(osVersion !== "" && { osVersion }),
  };
}

/** `linux/arm64/v8`; `unknown` without an operating system. */
export function formatPlatform({ os, architecture, variant = "" }: Platform): string {
  if (os === "") return "unknown";
  return [os, architecture, variant].filter((part) => part !== "").join("/");
}

/** The same with the version of the operating system: `windows(10.0.17763)/amd64`. */
export function formatPlatformAll(of: Platform): string {
  const { os, osVersion = "" } = of;
  return formatPlatform(osVersion === "" || os === "" ? of : { ...of, os: `${os}(${osVersion})` });
}

/** The names that comparisons are made by: no aliases, no default variants, lower case. */
export function normalizePlatform(of: Platform, host: Platform = hostPlatform()): Platform {
  const [architecture, variant] = normalizeArchitecture(of.architecture, of.variant ?? "");
  return { ...of, os: normalizeOs(of.os, host), architecture, variant };
}

function normalizeOs(name: string, host: Platform): string {
  if (name === "") return host.os;
  const os = name.toLowerCase();
  return os === "macos" ? "darwin" : os;
}

function normalizeArchitecture(name: string, givenVariant: string): [string, string] {
  const architecture = name.toLowerCase();
  const variant = givenVariant.toLowerCase();
  switch (architecture) {
    case "i386":
      return ["386", ""];
    case "x86_64":
    case "x86-64":
    case "amd64":
      return ["amd64", variant === "v1" ? "" : variant];
    case "aarch64":
    case "arm64":
      if (["8", "v8", "v8.0"].includes(variant)) return ["arm64", ""];
      return ["arm64", ["9", "9.0", "v9.0"].includes(variant) ? "v9" : variant];
    case "armhf":
      return ["arm", "v7"];
    case "armel":
      return ["arm", "v6"];
    case "arm":
      if (variant === "" || variant === "7") return ["arm", "v7"];
      return ["arm", ["5", "6", "8"].includes(variant) ? `v${variant}` : variant];
    default:
      return [architecture, variant];
  }
}

const architectureOf: Readonly<Record<string, string>> = {
  x64: "amd64",
  ia32: "386",
  mipsel: "mipsle",
};

/** Where this process runs. */
export function hostPlatform(): Platform {
  const os = process.platform === "win32" ? "windows" : process.platform;
  if (process.arch === "arm64") return { os, architecture: "arm64", variant: "v8" };
  if (process.arch === "arm") {
    const variables: Readonly<Record<string, unknown>> = { ...process.config.variables };
    const version = variables["arm_version"];
    return { os, architecture: "arm", variant: version === "6" ? "v6" : "v7" };
  }
  if (process.arch === "ppc64" && endianness() === "LE") return { os, architecture: "ppc64le" };
  return { os, architecture: architectureOf[process.arch] ?? process.arch };
}
