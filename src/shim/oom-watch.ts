import { watch } from "node:fs";
import { join } from "node:path";
import { isErrno } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import { type Cgroup, CgroupFiles } from "#core/cgroups/cgroup.ts";

const pollMs = 1000;

/**
 * Calls back when the kernel has killed processes of a cgroup for want of memory, once for all that
 * were killed since it looked last.
 *
 * It looks when told to (an exit may have been such a kill), and by itself: v2 notifies of changes;
 * the eventfd of v1 needs a thread that waits for it, which one file read a second is cheaper than.
 */
export class OomWatch implements Disposable {
  readonly #cgroup: Cgroup;
  readonly #onOom: () => void;
  readonly #logger: Logger;
  readonly #resources = new DisposableStack();
  #killsSeen = 0n;

  /** `seen` is what a predecessor had seen; without it nothing is told of what was before. */
  constructor(
    cgroup: Cgroup,
    options: {
      readonly logger: Logger;
      readonly onOom: () => void;
      readonly seen?: bigint | undefined;
    },
  ) {
    this.#cgroup = cgroup;
    this.#onOom = options.onOom;
    this.#logger = options.logger;
    this.#attempt(() => {
      this.#killsSeen = options.seen ?? oomKills(cgroup);
      this.#begin();
    });
  }

  /** Told of, or before it began. */
  get killsSeen(): bigint {
    return this.#killsSeen;
  }

  /** Looks now. Never throws. */
  check(): void {
    if (this.#resources.disposed) return;
    this.#attempt(() => {
      const kills = oomKills(this.#cgroup);
      if (kills <= this.#killsSeen) return;
      this.#killsSeen = kills;
      this.#onOom();
    });
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }

  #begin(): void {
    if (this.#cgroup.version === 1) {
      const timer = setInterval(() => this.check(), pollMs).unref();
      this.#resources.defer(() => clearInterval(timer));
      return;
    }
    const events = join(this.#cgroup.path, "memory.events");
    try {
      const watcher = watch(events, { persistent: false }, () => this.check());
      this.#resources.defer(() => watcher.close());
      watcher.on("error", (error) => this.#giveUp(error));
    } catch (error) {
      // Without the memory controller nothing can be counted; the cgroup may be gone already, too.
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }

  #attempt(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#giveUp(error);
    }
  }

  #giveUp(error: unknown): void {
    this.#logger.error("cannot watch for want of memory", { error });
    this.#resources.dispose();
  }
}

function oomKills(cgroup: Cgroup): bigint {
  if (cgroup.version === 2) {
    return new CgroupFiles(cgroup.path).table("memory.events").get("oom_kill") ?? 0n;
  }
  const path = cgroup.paths.get("memory");
  if (path === undefined) return 0n;
  return new CgroupFiles(path).table("memory.oom_control").get("oom_kill") ?? 0n;
}
