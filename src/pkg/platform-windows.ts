interface WindowsVersion {
  readonly major: number;
  readonly minor: number;
  readonly build: number;
}

// Windows Server 2022, the first whose successors run its containers, and 2025.
const stableReleases: readonly number[] = [20_348, 26_100];

/**
 * Whether a host of one version runs containers of another. An unknown version on either side
 * matches everything.
 *
 * https://learn.microsoft.com/virtualization/windowscontainers/deploy-containers/version-compatibility
 */
export function matchesWindowsVersion(
  hostText: string | undefined,
  containerText: string | undefined,
): boolean {
  const host = parseVersion(hostText);
  if (host === undefined || !containerText) return true;
  const container = parseVersion(containerText) ?? { major: 0, minor: 0, build: 0 };
  if (host.major !== container.major || host.minor !== container.minor) return false;
  const first = stableReleases[0] ?? 0;
  if (host.build < first) return host.build === container.build;
  // A stable release runs what runs on the one before it, and everything between.
  const oldest = stableReleases.findLast((build) => host.build > build) ?? first;
  return oldest <= container.build && container.build <= host.build;
}

function parseVersion(text: string | undefined): WindowsVersion | undefined {
  const [, major, minor, build] = /^(\d{1,3})\.(\d{1,3})\.(\d{1,5})(?:\.|$)/.exec(text ?? "") ?? [];
  const version = { major: Number(major), minor: Number(minor), build: Number(build) };
  const isInRange = version.major < 256 && version.minor < 256 && version.build < 65_536;
  const isZero = version.major === 0 && version.minor === 0 && version.build === 0;
  return isInRange && !isZero ? version : undefined;
}
