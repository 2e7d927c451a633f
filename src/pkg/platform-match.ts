import { hostPlatform, normalizePlatform, type Platform } from "#pkg/platform.ts";
import { matchesWindowsVersion } from "#pkg/platform-windows.ts";

/** Says which platforms will do, and which of two is the better one. */
export interface PlatformMatcher {
  readonly matches: (platform: Platform) => boolean;
  /** For `sort`: the better platform first, 0 where neither is better. */
  readonly compare: (a: Platform, b: Platform) => number;
}

/** Every platform, none better than another. */
export const anyPlatform: PlatformMatcher = { matches: () => true, compare: () => 0 };

/**
 * What runs on the given platform, the closest first: itself, then lower variants, then the 32-bit
 * architecture that the processor also runs.
 */
export function platformMatcher(platform: Platform = hostPlatform()): PlatformMatcher {
  return orderedPlatforms(compatible(normalizePlatform(platform)));
}

/** Only the platform itself. */
export function strictPlatformMatcher(platform: Platform): PlatformMatcher {
  return orderedPlatforms([normalizePlatform(platform)]);
}

/** Any of the given ones; an earlier one is better. */
export function orderedPlatforms(platforms: readonly Platform[]): PlatformMatcher {
  const wanted = platforms.map((platform) => normalizePlatform(platform));
  const rank = (platform: Platform): number => {
    const at = wanted.findIndex((one) => isMatch(one, platform));
    return at < 0 ? wanted.length : at;
  };
  return {
    matches: (platform) => rank(platform) < wanted.length,
    compare: (a, b) => rank(a) - rank(b),
  };
}

/** Any of the given ones, none better than another. */
export function unorderedPlatforms(platforms: readonly Platform[]): PlatformMatcher {
  const { matches } = orderedPlatforms(platforms);
  return { matches, compare: (a, b) => Number(matches(b)) - Number(matches(a)) };
}

function isMatch(wanted: Platform, given: Platform): boolean {
  const platform = normalizePlatform(given);
  return (
    wanted.os === platform.os &&
    wanted.architecture === platform.architecture &&
    (wanted.variant ?? "") === (platform.variant ?? "") &&
    (wanted.os !== "windows" || matchesWindowsVersion(wanted.osVersion, given.osVersion))
  );
}

function compatible(platform: Platform): readonly Platform[] {
  switch (platform.architecture) {
    case "amd64":
      return [
        platform,
        ...lowerVariants(platform, 1),
        { ...platform, architecture: "386", variant: "" },
      ];
    case "arm":
      return [platform, ...lowerVariants(platform, 5)];
    case "arm64":
      return compatibleArm64(platform);
    default:
      return [platform];
  }
}

function lowerVariants(platform: Platform, lowest: number): readonly Platform[] {
  const version = Number(/^v?(\d{1,3})$/.exec(platform.variant ?? "")?.[1] ?? 0);
  const lower: Platform[] = [];
  for (let v = version - 1; v >= lowest; v--) lower.push({ ...platform, variant: `v${v}` });
  return lower;
}

/** ARMv9.n has what ARMv8.(n+5) has, as far as that goes (8.9); all of them run 32-bit ARMv8. */
function compatibleArm64(platform: Platform): readonly Platform[] {
  const [, majorText = "", minorText = "0"] =
    /^v([89])(?:\.(\d))?$/.exec(platform.variant || "v8") ?? [];
  const minorMax = majorText === "9" ? 7 : 9;
  const minor = Number(minorText);
  if (majorText === "" || minor > minorMax) return [platform];
  const ladder = [
    ...(majorText === "9" ? steps(9, minor) : []),
    ...steps(8, majorText === "9" ? Math.min(minor + 5, 9) : minor),
  ];
  return [
    ...ladder.map((variant) => ({ ...platform, variant })),
    ...compatible({ ...platform, architecture: "arm", variant: "v8" }),
  ];
}

function steps(major: number, minor: number): readonly string[] {
  const names: string[] = [];
  for (let m = minor; m > 0; m--) names.push(`v${major}.${m}`);
  return [...names, `v${major}`];
}
