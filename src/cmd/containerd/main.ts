import { projectDir } from "#cmd/containerd/project.ts";
import { resolveDirectly } from "#pkg/direct-imports.ts";
import { messageOf } from "#pkg/errors.ts";

// Without a listener Node answers SIGUSR1 by opening its debugger to every local user. The daemon
// adds its own later; until then the signal is nothing.
process.on("SIGUSR1", () => undefined);

resolveDirectly(projectDir);
const { commandLine } = await import("#cmd/containerd/command-line.ts");
try {
  await commandLine().parseAsync();
} catch (error) {
  console.error(`containerd: ${messageOf(error)}`);
  process.exit(1);
}
