/** What a task must be, told from what was done to it alone. */
export interface ModelTask {
  readonly id: string;
  readonly pid: number;
  status: "created" | "running" | "paused" | "stopped";
  exitStatus: number;
  readonly execs: Map<string, ModelExec>;
  /** What must have been told of it, in order, as `TaskClient.topics` has it. */
  readonly told: string[];
}

export interface ModelExec {
  status: "created" | "running" | "stopped";
  exitStatus: number;
}

export type Operation =
  | "create"
  | "start"
  | "kill"
  | "end"
  | "delete"
  | "pause"
  | "resume"
  | "exec"
  | "exec-start"
  | "exec-kill"
  | "exec-delete"
  | "update"
  | "refused"
  | "restart-daemon"
  | "kill-supervisor";

/** How often each is chosen, where it can be. */
const weights: Readonly<Record<Operation, number>> = {
  create: 12,
  start: 12,
  kill: 6,
  end: 3,
  delete: 10,
  pause: 5,
  resume: 8,
  exec: 8,
  "exec-start": 10,
  "exec-kill": 6,
  "exec-delete": 6,
  update: 3,
  refused: 8,
  "restart-daemon": 2,
  "kill-supervisor": 1,
};

export const operations: readonly Operation[] = Object.entries(weights).flatMap(
  // -- the keys of the table above
  ([operation, weight]) => Array.from({ length: weight }, () => operation as Operation),
);

/** A process that ends takes the execs of its container along, and is told of after them. */
export function stop(task: ModelTask, exitStatus: number): void {
  for (const exec of task.execs.values()) {
    if (exec.status !== "running") continue;
    exec.status = "stopped";
    exec.exitStatus = 137;
  }
  task.status = "stopped";
  task.exitStatus = exitStatus;
  task.told.push(`exit ${exitStatus}`);
}
