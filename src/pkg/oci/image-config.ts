import * as v from "valibot";
import { invalidArgument, messageOf } from "#pkg/errors.ts";
import { isReservedLabel, type Labels } from "#pkg/label.ts";
import { defaultEnv } from "#pkg/oci/default-spec.ts";
import { editProcess, mergeEnv, type SpecOption } from "#pkg/oci/spec-options.ts";
import { additionalGids, resolveUser, type UserIds } from "#pkg/oci/user.ts";
import type { RootFiles } from "#pkg/oci/user-files.ts";

/** What an image's author says of the container to be made from it. Empty is "not said". */
export interface ImageRunConfig {
  readonly user: string;
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDir: string;
  readonly stopSignal: string;
  readonly labels: Labels;
  /** Paths that want to be kept apart from the image. */
  readonly volumes: readonly string[];
  readonly exposedPorts: readonly string[];
}

const texts = v.nullish(v.array(v.string()), []);
const text = v.nullish(v.string(), "");
const set = v.nullish(v.record(v.string(), v.unknown()), {});

const schema = v.object({
  config: v.nullish(
    v.object({
      User: text,
      Env: texts,
      Entrypoint: texts,
      Cmd: texts,
      WorkingDir: text,
      StopSignal: text,
      Labels: v.nullish(v.record(v.string(), v.string()), {}),
      Volumes: set,
      ExposedPorts: set,
    }),
  ),
});

/** Of an image's configuration blob. Throws `invalid-argument` naming the field. */
export function parseImageRunConfig(blob: Uint8Array): ImageRunConfig {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(blob));
  } catch (error) {
    throw invalidArgument(`image config: ${messageOf(error)}`, { cause: error });
  }
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (!result.success) {
    const [issue] = result.issues;
    const path = issue.path?.map((item) => String(item.key)).join(".") ?? "";
    throw invalidArgument(`image config: ${path}: ${issue.message}`);
  }
  const { config } = result.output;
  return {
    user: config?.User ?? "",
    env: config?.Env ?? [],
    entrypoint: config?.Entrypoint ?? [],
    cmd: config?.Cmd ?? [],
    workingDir: config?.WorkingDir ?? "",
    stopSignal: config?.StopSignal ?? "",
    labels: config?.Labels ?? {},
    volumes: Object.keys(config?.Volumes ?? {}),
    exposedPorts: Object.keys(config?.ExposedPorts ?? {}),
  };
}

/**
 * Environment, command and directory as the image says. `args` take the place of its command, not
 * of its entry point; what the specification's environment says already is stronger.
 */
export function withImageConfig(
  config: ImageRunConfig,
  { args }: { readonly args: readonly string[] },
): SpecOption {
  const env = config.env.length === 0 ? defaultEnv : config.env;
  return editProcess((process) => ({
    ...process,
    env: mergeEnv(env, process.env ?? []),
    args: [...config.entrypoint, ...(args.length > 0 ? args : config.cmd)],
    cwd: config.workingDir === "" ? "/" : config.workingDir,
  }));
}

/** Who the image wants to be run as, for `withUser`: root with root's groups where it does not say. */
export async function imageUser(
  root: RootFiles,
  config: Pick<ImageRunConfig, "user">,
): Promise<readonly [user: UserIds, additionalGids: number[]]> {
  if (config.user === "") return [{ uid: 0, gid: 0 }, await additionalGids(root, "root")];
  const user = await resolveUser(root, config.user);
  return [user, await additionalGids(root, String(user.uid))];
}

/** The label by which `ctr task kill` and others know how to stop a container. */
export const stopSignalLabel = "io.containerd.image.config.stop-signal";

/**
 * The labels a container gets from its image: all but those that containerd itself acts on. An
 * author of images must not be able to have a container restarted, or its log written by a program
 * of the host (CVE-2026-53488).
 */
export function imageLabels(config: Pick<ImageRunConfig, "labels">): Labels {
  return Object.fromEntries(Object.entries(config.labels).filter(([key]) => !isReservedLabel(key)));
}
