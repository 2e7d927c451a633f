import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type DaemonKind, startDaemon } from "#test/support/daemon.ts";
import type { Room } from "#test/support/room.ts";
import { type Measures, quantile, type Unit } from "./measures.ts";
import { Side } from "./side.ts";

export interface StageOptions {
  readonly bench: string;
  readonly room: Room;
  readonly measures: Measures;
  readonly kinds: readonly DaemonKind[];
  readonly rounds: number;
  /** Multiplies how much is made: containers, blobs, bytes. 1 is the comparison; less only proves that it runs. */
  readonly scale: number;
  /** OCI runtime of both sides; undefined leaves each its default. */
  readonly runtime: string | undefined;
  readonly large: boolean;
  /** Where our daemon leaves CPU profiles; undefined takes none. */
  readonly profileDir: string | undefined;
  readonly say: (line: string) => void;
}

/** What a bench measures on: a room of its own, the daemons in it, and where samples go. */
export class Stage {
  readonly room: Room;
  readonly rounds: number;
  readonly large: boolean;
  readonly runtime: string | undefined;
  readonly #options: StageOptions;

  constructor(options: StageOptions) {
    this.room = options.room;
    this.rounds = options.rounds;
    this.large = options.large;
    this.runtime = options.runtime;
    this.#options = options;
  }

  /** A count or size of the bench under the scale asked for; at least `least`. */
  size(count: number, least = 1): number {
    return Math.max(least, Math.round(count * this.#options.scale));
  }

  /**
   * Starts the daemons, Go's first, ended with the room. They share the room's namespace, so that its leak check
   * sees the cgroups of both; `Side.id` keeps their names apart.
   */
  async startSides({
    dir = this.room.dir,
    goProgram,
  }: {
    dir?: string;
    goProgram?: string | undefined;
  } = {}): Promise<Side[]> {
    const sides: Side[] = [];
    for (const kind of this.#options.kinds) {
      const own = { ...this.room, dir: join(dir, kind) };
      await mkdir(own.dir, { recursive: true });
      const env = this.#environment(kind);
      const daemon = await startDaemon(own, { kind, env, ...(goProgram && { goProgram }) });
      const side = new Side({ daemon, namespace: this.room.namespace, runtime: this.runtime });
      this.room.resources.use(side);
      sides.push(side);
    }
    return sides;
  }

  #environment(kind: DaemonKind): Record<string, string> {
    const { profileDir } = this.#options;
    if (kind === "go" || profileDir === undefined) return {};
    const preload = join(import.meta.dirname, "profile-preload.ts");
    return { NODE_OPTIONS: `--import=${preload}`, BENCH_PROFILE_DIR: profileDir };
  }

  /** Each side in turn, round after round: what slows the machine for a while slows both. */
  async alternate(
    sides: readonly Side[],
    measure: (side: Side, round: number) => Promise<void>,
    rounds: number = this.rounds,
  ): Promise<void> {
    for (let round = 0; round < rounds; round++) {
      for (const side of sides) await measure(side, round);
    }
  }

  record(side: Side, measure: string, unit: Unit, value: number): void {
    const { bench, measures } = this.#options;
    measures.add({ bench, measure, unit, kind: side.kind, value });
  }

  /** Measures in milliseconds; returns what the work returned. */
  async time<T>(side: Side, measure: string, work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    const result = await work();
    this.record(side, measure, "ms", performance.now() - started);
    return result;
  }

  /** The middle and the end of many times of one thing, as two measures. */
  recordTail(side: Side, measure: string, times: readonly number[]): void {
    this.record(side, `${measure}, p50`, "ms", quantile(times, 0.5));
    this.record(side, `${measure}, p99`, "ms", quantile(times, 0.99));
  }

  say(line: string): void {
    this.#options.say(line);
  }
}
