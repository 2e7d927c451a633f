import { CodedError, notFound } from "#pkg/errors.ts";
import type { UnixNanos } from "#pkg/time.ts";

/**
 * How a process ended. `status` is the exit code, 128 + n for signal n, 255 when nobody could see
 * it.
 */
export interface Exit {
  readonly pid: number;
  readonly status: number;
  readonly at: UnixNanos;
}

/**
 * Where a process stands, the container's first one or an exec. Only `transition` makes one from
 * another.
 *
 * An exec is created without a pid and never paused by itself; `pausing` lasts as long as the
 * runtime's call.
 */
export type ProcessState =
  | { readonly status: "created"; readonly pid: number }
  | { readonly status: "running"; readonly pid: number }
  | { readonly status: "pausing"; readonly pid: number }
  | { readonly status: "paused"; readonly pid: number }
  | { readonly status: "stopped"; readonly exit: Exit }
  | { readonly status: "deleted"; readonly exit: Exit | undefined };

export type Action =
  | "start"
  | "delete"
  | "pause"
  | "resume"
  | "update"
  | "exec"
  | "resize"
  | "kill";

export type ProcessEvent =
  | { readonly type: "started"; readonly pid: number }
  | { readonly type: "pausing" }
  | { readonly type: "pause-failed" }
  | { readonly type: "paused" }
  | { readonly type: "resumed" }
  | { readonly type: "exited"; readonly exit: Exit }
  | { readonly type: "deleted" };

type Refusals = Readonly<Partial<Record<Action, string>>>;

// Upstream's words, which clients match; their class is `unknown` there, except where `not found`
// is said.
const refusals: Readonly<Record<ProcessState["status"], Refusals>> = {
  created: {
    pause: "cannot pause task in created state",
    resume: "cannot resume task in created state",
  },
  running: {
    start: "cannot start a running process",
    delete: "cannot delete a running process",
    resume: "cannot resume a running process",
  },
  pausing: {
    start: "cannot start a running process",
    delete: "cannot delete a running process",
    pause: "cannot pause a paused container",
    resume: "cannot resume a running process",
    exec: "cannot exec in a paused state",
  },
  paused: {
    start: "cannot start a paused process",
    delete: "cannot delete a paused process",
    pause: "cannot pause a paused container",
    exec: "cannot exec in a paused state",
  },
  stopped: {
    start: "cannot start a stopped process",
    pause: "cannot pause a stopped container",
    resume: "cannot resume a stopped container",
    update: "cannot update a stopped container",
    exec: "cannot exec in a stopped state",
    resize: "cannot resize a stopped container",
  },
  deleted: {
    start: "cannot start a deleted process",
    delete: "cannot delete a deleted process",
    pause: "cannot pause a deleted process",
    resume: "cannot resume a deleted process",
    update: "cannot update a deleted process",
    exec: "cannot exec in a deleted state",
    resize: "cannot resize a deleted process",
    kill: "cannot kill a deleted process",
  },
};

/** Throws upstream's error when the action makes no sense in this state. */
export function assertAllowed(state: ProcessState, action: Action): void {
  const refusal = refusals[state.status][action];
  if (refusal === undefined) return;
  if (state.status === "deleted" && (action === "delete" || action === "kill")) {
    throw notFound(refusal);
  }
  if (action === "kill") throw notFound("process already finished");
  throw new CodedError("unknown", refusal);
}

/**
 * The state after an event. Events that come too late change nothing: an exit is final, and a
 * deletion too.
 *
 * Throws `internal` on an event that cannot follow, which is a fault of the caller.
 */
export function transition(state: ProcessState, event: ProcessEvent): ProcessState {
  if (state.status === "deleted") return state;
  switch (event.type) {
    case "exited":
      return state.status === "stopped" ? state : { status: "stopped", exit: event.exit };
    case "deleted":
      if (state.status === "stopped") return { status: "deleted", exit: state.exit };
      if (state.status === "created") return { status: "deleted", exit: undefined };
      break;
    case "started":
      if (state.status === "created") return { status: "running", pid: event.pid };
      if (state.status === "stopped") return state;
      break;
    case "pausing":
      if (state.status === "running") return { status: "pausing", pid: state.pid };
      break;
    case "pause-failed":
      if (state.status === "pausing") return { status: "running", pid: state.pid };
      if (state.status === "stopped") return state;
      break;
    case "paused":
      if (state.status === "pausing") return { status: "paused", pid: state.pid };
      if (state.status === "stopped") return state;
      break;
    case "resumed":
      if (state.status === "paused") return { status: "running", pid: state.pid };
      if (state.status === "stopped") return state;
      break;
  }
  throw new CodedError("internal", `a ${state.status} process cannot become ${event.type}`);
}

export function exitOf(state: ProcessState): Exit | undefined {
  return state.status === "stopped" || state.status === "deleted" ? state.exit : undefined;
}

/** 0 when the process has never had one. A finished process keeps its pid for those who ask. */
export function pidOf(state: ProcessState): number {
  return "pid" in state ? state.pid : (exitOf(state)?.pid ?? 0);
}
