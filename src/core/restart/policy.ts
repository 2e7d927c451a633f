import { invalidArgument } from "#pkg/errors.ts";
import { quote } from "#pkg/log-format.ts";

/** Labels of a container by which its owner asks for it to be kept running, or stopped. */
export const restartLabels = {
  /** What is wanted: `running` or `stopped`. Without it the container is nobody's concern. */
  status: "containerd.io/restart.status",
  policy: "containerd.io/restart.policy",
  /** How often it was started here; kept by the monitor. */
  count: "containerd.io/restart.count",
  /** Where the output of the tasks started here goes. */
  logUri: "containerd.io/restart.loguri",
  /** A true value: somebody has stopped it on purpose. */
  explicitlyStopped: "containerd.io/restart.explicitly-stopped",
  /** Gone since 2.0. */
  logPath: "containerd.io/restart.logpath",
} as const;

export interface RestartPolicy {
  readonly name: "always" | "no" | "on-failure" | "unless-stopped";
  /** Of `on-failure`; 0 is no limit. */
  readonly retriesMax: number;
}

/**
 * Parses `always`, `no`, `unless-stopped` or `on-failure[:N]`; an empty one is `always`.
 *
 * Throws `invalid-argument` in upstream's words.
 */
export function parseRestartPolicy(text: string): RestartPolicy {
  const [name = "", retries] = text.split(":");
  switch (name) {
    case "":
    case "always":
    case "no":
    case "unless-stopped":
      if (retries !== undefined) {
        throw invalidArgument(`restart policy ${quote(name)} not support max retry count`);
      }
      return { name: name === "" ? "always" : name, retriesMax: 0 };
    case "on-failure": {
      const retriesMax = retries === undefined ? 0 : tryParseCount(retries);
      if (retriesMax === undefined) throw invalidArgument(`invalid max retry count: ${retries}`);
      return { name, retriesMax };
    }
    default:
      throw invalidArgument(`restart policy ${quote(text)} not supported`);
  }
}

/**
 * Whether the policy wants a container started again that does not run.
 *
 * `exitStatus` is 0 where no task is left to tell: `on-failure` then lets it be, as upstream. Throws
 * `invalid-argument` for a policy or a count that does not parse.
 */
export function wantsRestart(
  labels: Readonly<Record<string, string>>,
  exitStatus: number,
): boolean {
  if (isExplicitlyStopped(labels)) return false;
  const { name, retriesMax } = parseRestartPolicy(labels[restartLabels.policy] ?? "");
  switch (name) {
    case "always":
    case "unless-stopped":
      return true;
    case "no":
      return false;
    case "on-failure": {
      const text = labels[restartLabels.count] ?? "";
      const count = text === "" ? 0 : tryParseCount(text);
      if (count === undefined) {
        throw invalidArgument(`label ${restartLabels.count}: invalid count ${quote(text)}`);
      }
      return exitStatus !== 0 && (retriesMax === 0 || count < retriesMax);
    }
  }
}

/** The words are those that Go takes for true. */
export function isExplicitlyStopped(labels: Readonly<Record<string, string>>): boolean {
  return /^(1|t|T|TRUE|true|True)$/.test(labels[restartLabels.explicitlyStopped] ?? "");
}

/** The count after one more start; one that does not parse begins anew. */
export function nextCount(labels: Readonly<Record<string, string>>): number {
  return (tryParseCount(labels[restartLabels.count] ?? "") ?? 0) + 1;
}

function tryParseCount(text: string): number | undefined {
  if (!/^[+-]?\d+$/.test(text)) return undefined;
  const count = Number(text);
  return Number.isSafeInteger(count) ? count : undefined;
}
