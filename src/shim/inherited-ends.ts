import {
  type EndRole,
  firstInherited,
  keyOf,
  parseManifest,
  type ProcessName,
} from "#core/runtime/handover.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/** Those of one process. Whoever takes one owns it; disposing closes the others. */
export class InheritedEnds implements Disposable {
  /** 0 where the supervisor before did not say it. */
  readonly pid: number;
  readonly #sys: Pick<Syscalls, "close">;
  readonly #fds: Map<EndRole, number>;

  constructor(
    sys: Pick<Syscalls, "close">,
    of: { readonly pid: number; readonly fds: Map<EndRole, number> },
  ) {
    this.#sys = sys;
    this.pid = of.pid;
    this.#fds = of.fds;
  }

  take(role: EndRole): number | undefined {
    const fd = this.#fds.get(role);
    this.#fds.delete(role);
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.values()) this.#sys.close(fd);
    this.#fds.clear();
  }
}

/**
 * What the daemon has kept of the supervisor before this one. Disposing closes what nobody took.
 *
 * A process that is not among it was never handed over; one that is has no more than is there.
 */
export class Inheritance implements Disposable {
  readonly #processes: Map<string, InheritedEnds>;

  private constructor(processes: Map<string, InheritedEnds>) {
    this.#processes = processes;
  }

  /**
   * Takes over what the manifest says was inherited. Nothing may be started before: the descriptors
   * come without close-on-exec. Throws `invalid-argument` for what is no manifest.
   */
  static read(sys: Pick<Syscalls, "close" | "setCloseOnExec">, manifest: string): Inheritance {
    let next = firstInherited;
    const processes = new Map<string, InheritedEnds>();
    for (const { roles, pid, ...name } of parseManifest(manifest)) {
      const fds = new Map(roles.map((role) => [role, next++]));
      for (const fd of fds.values()) sys.setCloseOnExec(fd, "on");
      processes.set(keyOf(name), new InheritedEnds(sys, { pid, fds }));
    }
    return new Inheritance(processes);
  }

  /**
   * Undefined, too, when what is there is of an older process of that name: its deletion, and what
   * came after, were still on their way when the supervisor died.
   */
  take(name: ProcessName, pid: number): InheritedEnds | undefined {
    const ends = this.#processes.get(keyOf(name));
    if (ends && ends.pid !== 0 && ends.pid !== pid) return undefined;
    this.#processes.delete(keyOf(name));
    return ends;
  }

  [Symbol.dispose](): void {
    for (const ends of this.#processes.values()) ends[Symbol.dispose]();
    this.#processes.clear();
  }
}
