import type { Stage } from "./stage.ts";

/** One comparison. It measures both daemons in turns, in the same run, and records what it saw. */
export interface Bench {
  readonly name: string;
  readonly about: string;
  /** How often each thing is measured when nobody says otherwise. */
  readonly rounds: number;
  measure(stage: Stage): Promise<void>;
}
