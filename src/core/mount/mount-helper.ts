import type { RunProgram } from "#core/mount/mount-program.ts";
import type { Mount } from "#core/mount/mount.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, wrap } from "#pkg/errors.ts";

/** A helper that is stuck for longer is ended: nobody else's mount waits for it, but its container does. */
const timeoutMs = 120_000;
const argumentsShownMax = 4096;

/** Types that a program mounts, by how they begin, and that program. */
const helpers = [
  ["fuse.", "mount.fuse"],
  ["fuse3.", "mount.fuse3"],
] as const;

function helperOf(type: string): (typeof helpers)[number] | undefined {
  return helpers.find(([prefix]) => type.startsWith(prefix));
}

export function isHelped(type: string): boolean {
  return helperOf(type) !== undefined;
}

/**
 * Makes a mount by a program, as file systems of user space have them: `fuse3.fuse-overlayfs` by
 * `mount.fuse3 SOURCE TARGET -o OPTION... -t fuse-overlayfs`.
 */
export async function mountByHelper(
  ctx: Context,
  run: RunProgram,
  mount: Mount,
  target: string,
): Promise<void> {
  const [prefix, name] = helperOf(mount.type) ?? ["", ""];
  const options = mount.options.flatMap((option) => ["-o", option]);
  const args = [mount.source, target, ...options, "-t", mount.type.slice(prefix.length)];
  const command = `[${name} [${args.join(" ").slice(0, argumentsShownMax)}]]`;
  const { failure, output } = await run(ctx.withTimeout(timeoutMs), name, args).catch(
    (error: unknown) => {
      throw wrap(`mount helper ${command} failed`, error);
    },
  );
  if (failure === "") return;
  const words = `mount helper ${command} failed: ${JSON.stringify(output)}: ${failure}`;
  throw new CodedError("unknown", words);
}
