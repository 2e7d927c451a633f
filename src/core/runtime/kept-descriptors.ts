import type { DescriptorKeeper, HeldProcess } from "#core/runtime/descriptor-keeper.ts";
import { keyOf } from "#core/runtime/handover.ts";

export type Keeper = Pick<DescriptorKeeper, "complete" | "processes"> & Disposable;

/** Of supervisors that died one after the other, none of them having sent all it had. */
const keepersMax = 3;

/**
 * What the next supervisor of a group inherits: of the last one that had sent all it had, and of
 * those after it that died before.
 *
 * Owns its keepers. Disposing closes what they hold; it may be used again.
 */
export class KeptDescriptors implements Disposable {
  /** The newest first. */
  #keepers: Keeper[] = [];

  /** Takes over one that has all there is: what older ones hold is over. */
  replaceBy(keeper: Keeper): void {
    this[Symbol.dispose]();
    this.#keepers = [keeper];
  }

  /**
   * Takes over one whose supervisor died in the middle of its sending. What it has of a process
   * counts, since each is sent whole; of the others an older one may have something.
   */
  add(keeper: Keeper): void {
    this.#keepers.unshift(keeper);
    // The oldest is the one that had all.
    while (this.#keepers.length > keepersMax) {
      for (const dropped of this.#keepers.splice(-2, 1)) dropped[Symbol.dispose]();
    }
  }

  /** As they stand now. What is of a process that has ended meanwhile no successor asks for. */
  processes(): readonly HeldProcess[] {
    const newest = new Map<string, HeldProcess>();
    for (const keeper of this.#keepers) {
      for (const held of keeper.processes()) {
        if (!newest.has(keyOf(held))) newest.set(keyOf(held), held);
      }
    }
    return [...newest.values()];
  }

  [Symbol.dispose](): void {
    const keepers = this.#keepers;
    this.#keepers = [];
    for (const keeper of keepers) keeper[Symbol.dispose]();
  }
}
