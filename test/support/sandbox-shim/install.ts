import { writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * Puts the shim into a folder as a command, which as an absolute path is the name of its runtime.
 *
 * Its `start` is the shell alone: it leaves the shim behind, and prints what that says when it serves.
 */
export async function installSandboxShim(dir: string): Promise<string> {
  const path = join(dir, "containerd-shim-sandboxes-v1");
  const main = join(import.meta.dirname, "main.ts");
  const program = `"${process.execPath}" --disable-warning=ExperimentalWarning "${main}" "$@"`;
  const script = `#!/bin/sh
for action; do :; done
[ "$action" = start ] || exec ${program}
mkfifo ready
setsid ${program} serve < /dev/null > ready 2<> log &
cat ready
`;
  await writeFile(path, script, { mode: 0o755 });
  return path;
}
