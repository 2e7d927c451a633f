/**
 * Named places between two durable steps, where a test ends the process or makes a step fail.
 *
 * Code that promises to survive a crash calls `hit` there. In the daemon nothing listens unless it was started with
 * `CONTAINERD_FAILPOINTS`, which only `cmd` reads.
 */
export interface Failpoints {
  /** May throw, or not return at all. */
  hit(name: string): void;
}

export const noFailpoints: Failpoints = { hit() {} };

/**
 * Parses `name=kill`, `name=kill:3` (at the third hit) and `name=error`, separated by commas.
 *
 * `kill` ends the process by SIGKILL: no handler, no `finally`, no buffer written. Throws for anything else.
 */
export function parseFailpoints(spec: string): Failpoints {
  const actions = new Map(spec.split(",").filter(Boolean).map(parseAction));
  return {
    hit(name) {
      const action = actions.get(name);
      if (action === undefined || --action.remaining > 0) return;
      if (action.verb === "kill") process.kill(process.pid, "SIGKILL");
      throw new Error(`failpoint ${name}`);
    },
  };
}

/** The failpoints that a specification names. Throws as `parseFailpoints`. */
export function namesIn(spec: string): readonly string[] {
  return spec
    .split(",")
    .filter(Boolean)
    .map((text) => parseAction(text)[0]);
}

interface Action {
  readonly verb: "kill" | "error";
  remaining: number;
}

function parseAction(text: string): [string, Action] {
  const match = /^([a-z][a-z0-9.-]*)=(kill|error)(?::([1-9][0-9]*))?$/.exec(text);
  if (!match) throw new Error(`failpoint ${JSON.stringify(text)} is not of the form name=kill[:n]`);
  const [, name = "", verb, count = "1"] = match;
  return [name, { verb: verb === "kill" ? "kill" : "error", remaining: Number(count) }];
}
