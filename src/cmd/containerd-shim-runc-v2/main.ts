import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { resolveDirectly } from "#pkg/direct-imports.ts";
import { CodedError, messageOf } from "#pkg/errors.ts";
import { type Flags, parseFlags } from "./flags.ts";
import { stderrLogger } from "./log.ts";

const name = "io.containerd.runc.v2";

async function main(): Promise<void> {
  const flags = parseFlags(process.argv.slice(2));
  const logger = stderrLogger({ debug: flags.debug }, { runtime: name });
  if (flags.version) {
    const { versionText } = await import("./version.ts");
    process.stdout.write(versionText("containerd-shim-runc-v2"));
    return;
  }
  // Each command loads only what it needs: `start` is waited for by whoever runs a container.
  if (flags.info) {
    const { info } = await import("./info.ts");
    await info(name, logger);
    return;
  }
  if (flags.action === "standby") {
    const { standBy } = await import("./standby.ts");
    return standBy(name);
  }
  assertTask(flags);
  switch (flags.action) {
    case "start": {
      const { start } = await import("./start.ts");
      await start(flags);
      return;
    }
    case "delete": {
      const { deleteBundle } = await import("./delete.ts");
      await deleteBundle(flags, logger);
      return;
    }
    case "supervise": {
      const { supervise } = await import("./supervise.ts");
      return supervise(flags, logger, readFileSync(0, "utf8"));
    }
    default:
      throw new CodedError(
        "invalid-argument",
        `action ${JSON.stringify(flags.action)} is none of start, delete, supervise, standby`,
      );
  }
}

function assertTask(flags: Flags): void {
  if (flags.namespace === "")
    throw new CodedError("invalid-argument", "shim namespace cannot be empty");
  if (flags.id === "" || flags.id !== basename(flags.id)) {
    throw new CodedError(
      "invalid-argument",
      `-id ${JSON.stringify(flags.id)} is no name of a task`,
    );
  }
}

resolveDirectly(join(import.meta.dirname, "../../.."));
try {
  await main();
} catch (error) {
  process.stderr.write(`${name}: ${messageOf(error)}\n`);
  process.exitCode = 1;
}
