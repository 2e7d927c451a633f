import type { Differ } from "#core/diff/diff.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import type { UnpackTarget } from "#core/unpack/unpack.ts";
import { notFound, wrap } from "#pkg/errors.ts";
import { formatPlatform, hostPlatform, normalizePlatform, parsePlatform } from "#pkg/platform.ts";
import type { Platform } from "#pkg/platform.ts";
import { platformMatcher } from "#pkg/platform-match.ts";
import type { PluginRecord } from "#pkg/plugin/plugin.ts";
import { DiffPlugin, SnapshotPlugin } from "#plugins/types.ts";

export const defaultSnapshotter = "overlayfs";
const defaultDiffer = "walking";

/** An entry of `unpack_config`. */
export interface UnpackConfig {
  readonly platform: string;
  readonly snapshotter: string;
  readonly differ: string;
  readonly config_type: string;
  readonly layer_types: readonly string[];
  /** Left out where its snapshotter or differ is not there. */
  readonly optional: boolean;
}

export interface UnpackTargetsOptions {
  /** Undefined: the host's platform with the default snapshotter and differ. */
  readonly configs: readonly UnpackConfig[] | undefined;
  /** Images must be for the platform itself; otherwise for its operating system. */
  readonly isStrict: boolean;
  readonly snapshotters: ReadonlyMap<string, Snapshotter>;
  readonly differs: ReadonlyMap<string, Differ>;
  readonly plugins: readonly PluginRecord[];
}

export function unpackTargets(options: UnpackTargetsOptions): readonly UnpackTarget[] {
  const configs = options.configs ?? [
    {
      platform: formatPlatform(hostPlatform()),
      snapshotter: defaultSnapshotter,
      differ: defaultDiffer,
      config_type: "",
      layer_types: [],
      optional: true,
    },
  ];
  return configs.flatMap((config) => {
    const target = targetOf(config, options);
    return target ? [target] : [];
  });
}

function targetOf(config: UnpackConfig, options: UnpackTargetsOptions): UnpackTarget | undefined {
  const platform = parse(config.platform);
  const snapshotter = options.snapshotters.get(config.snapshotter);
  const applier = differFor(config, platform, options);
  if (!snapshotter || !applier) {
    if (config.optional) return undefined;
    if (!snapshotter) throw notFound(`snapshotter ${JSON.stringify(config.snapshotter)}`);
    throw notFound("no matching diff plugins");
  }
  const record = options.plugins.find(
    ({ type, id }) => type === SnapshotPlugin.name && id === config.snapshotter,
  );
  return {
    matches: options.isStrict
      ? platformMatcher(platform).matches
      : ({ os }) => normalizePlatform({ os, architecture: "" }).os === platform.os,
    snapshotterName: config.snapshotter,
    snapshotter,
    capabilities: new Set(record?.capabilities),
    wantsImageInfo: record?.exports.get("enable_remote_snapshot_annotations") === "true",
    applier,
    configType: config.config_type,
    layerTypes: config.layer_types,
  };
}

function parse(text: string): Platform {
  try {
    return normalizePlatform(parsePlatform(text));
  } catch (error) {
    throw wrap(`platform configuration ${JSON.stringify(text)} invalid`, error);
  }
}

/** The one named, or else one whose own platforms the entry's is among, the default one first. */
function differFor(
  { differ }: UnpackConfig,
  platform: Platform,
  { differs, plugins }: UnpackTargetsOptions,
): Differ | undefined {
  if (differ !== "") return differs.get(differ);
  const fitting = plugins.filter(
    ({ type, platforms }) =>
      type === DiffPlugin.name && platforms.some((one) => platformMatcher(one).matches(platform)),
  );
  const chosen = fitting.find(({ id }) => id === defaultDiffer) ?? fitting[0];
  return chosen && differs.get(chosen.id);
}
