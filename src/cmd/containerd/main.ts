import { enableCompileCache } from "node:module";
import { projectDir } from "#cmd/containerd/project.ts";

// Stripping types and compiling is half of the time until the daemon serves. The cache stands beside the sources, never
// in the system's temporary folder: what is in it runs as the daemon. Where it cannot be written there is none.
enableCompileCache(`${projectDir}/.cache/compile`);

const { commandLine } = await import("#cmd/containerd/command-line.ts");
try {
  await commandLine().parseAsync();
} catch (error) {
  console.error(`containerd: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
