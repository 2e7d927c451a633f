import type { RunProgram } from "#core/mount/mount-program.ts";
import type { Context } from "#pkg/context.ts";
import type { Failpoints } from "#pkg/failpoint.ts";
import type { Logger } from "#pkg/log.ts";
import type { Reaper } from "#pkg/sys/reaper.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import type { BackgroundTasks } from "./background-tasks.ts";
import type { Children } from "./children.ts";
import type { HandoverServer } from "./handover-server.ts";
import type { Publish } from "./owed-events.ts";
import type { RuntimeProbe } from "./probe.ts";

/** What every container of a supervisor uses. */
export interface ShimServices {
  readonly sys: Syscalls;
  readonly logger: Logger;
  /** The supervisor's own, not a caller's: work that must not stop when a client hangs up. */
  readonly ctx: Context;
  readonly namespace: string;
  readonly group: string;
  /** Takes in every child of the process, orphans of containers among them. */
  readonly reaper: Reaper;
  readonly children: Children;
  /** For mounts that are made by helpers. */
  readonly runProgram: RunProgram;
  readonly probe: RuntimeProbe;
  readonly tasks: BackgroundTasks;
  readonly publish: Publish;
  /** Undefined where no daemon keeps anything for a successor: under Go's. */
  readonly handover: HandoverServer | undefined;
  readonly failpoints: Failpoints;
}
