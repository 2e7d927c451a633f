import { TreeWorkers } from "#pkg/archive/tree-workers.ts";

/** One pool of workers for several owners: it is there from the first to the last of them. */
export class SharedTreeWorkers {
  #owners = 0;
  #workers: TreeWorkers | undefined;

  /** Until it is disposed, once. */
  acquire(): { readonly workers: TreeWorkers } & AsyncDisposable {
    this.#owners++;
    const workers = (this.#workers ??= new TreeWorkers());
    return {
      workers,
      [Symbol.asyncDispose]: async () => {
        if (--this.#owners > 0) return;
        this.#workers = undefined;
        await workers.close();
      },
    };
  }
}
