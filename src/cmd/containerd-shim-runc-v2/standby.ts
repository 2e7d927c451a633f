import { readFileSync, writeFileSync } from "node:fs";
import { parseOrder } from "#core/runtime/standby.ts";
import { parseFlags } from "./flags.ts";
import { stderrLogger } from "./log.ts";
import { supervise } from "./supervise.ts";

/** Everything is loaded: waits for the daemon to say which group is to be served, and serves it. */
export async function standBy(runtime: string): Promise<void> {
  // Nothing else is to happen before: a read that holds up the process is all it takes.
  const args = parseOrder(readFileSync(0, "utf8"));
  if (args === undefined) return;
  const flags = parseFlags(args);
  process.env["NAMESPACE"] = flags.namespace;
  showArguments(args);
  return supervise(flags, stderrLogger({ debug: flags.debug }, { runtime }), "");
}

/** Shows in process lists what one shows that was started for its group. */
function showArguments(args: readonly string[]): void {
  const [script = ""] = process.argv.slice(1, 2);
  const name = readFileSync("/proc/self/comm", "utf8");
  process.title = [process.execPath, ...process.execArgv, script, ...args].join(" ");
  // Which the title took with it.
  writeFileSync("/proc/self/comm", name);
}
