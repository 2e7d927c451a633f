import { messageOf } from "#pkg/errors.ts";
import { parseFlags } from "./flags.ts";
import { stderrLogger } from "./log.ts";

const name = "io.containerd.runc.v2";

async function main(): Promise<void> {
  const flags = parseFlags(process.argv.slice(2));
  const logger = stderrLogger({ debug: flags.debug }, { runtime: name });
  switch (flags.action) {
    case "supervise":
      await (await import("./supervise.ts")).supervise(flags, logger);
      return;
    default:
      throw new Error(`unknown action ${JSON.stringify(flags.action)}`);
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${name}: ${messageOf(error)}\n`);
  process.exitCode = 1;
}
