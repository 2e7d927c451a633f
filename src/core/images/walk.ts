import type { Context } from "#pkg/context.ts";
import { resourceExhausted } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { TaskGroup } from "#pkg/task-group.ts";

/** Does something with a piece of content and names those below it that are to be visited as well. */
export type Visit = (
  ctx: Context,
  descriptor: ImageDescriptor,
) => Promise<readonly ImageDescriptor[]>;

/** References in one walk, repeated ones counted each time: an index of indexes of itself must end somewhere. */
export const referencesMax: number = 10_000;
const concurrencyMax = 32;

/**
 * Visits what is below the roots one after the other, depth first.
 *
 * Throws what `visit` throws, and `resource-exhausted` above 10000 references, before they are visited.
 */
export async function walk(
  ctx: Context,
  visit: Visit,
  roots: readonly ImageDescriptor[],
): Promise<void> {
  const count = new ReferenceCount();
  const stack = [...count.admit(roots)].reverse();
  for (let next = stack.pop(); next; next = stack.pop()) {
    ctx.throwIfEnded();
    const children = count.admit(await visit(ctx, next));
    for (const child of [...children].reverse()) stack.push(child);
  }
}

/** The same level by level, up to 32 of a level at once; the first failure ends the others. */
export async function dispatch(
  ctx: Context,
  visit: Visit,
  roots: readonly ImageDescriptor[],
): Promise<void> {
  const count = new ReferenceCount();
  let level: ImageDescriptor[] = [...count.admit(roots)];
  while (level.length > 0) {
    ctx.throwIfEnded();
    const below: ImageDescriptor[] = [];
    const queue = level.values();
    await using group = new TaskGroup(ctx.signal);
    for (let i = 0; i < Math.min(concurrencyMax, level.length); i++) {
      group.go(async (signal) => {
        const scoped = ctx.withSignal(signal);
        for (const descriptor of queue) {
          scoped.throwIfEnded();
          below.push(...count.admit(await visit(scoped, descriptor)));
        }
      });
    }
    await group.wait();
    level = below;
  }
}

/**
 * Does for what is named again no more than to wait for the first visit's answer: an image may name one piece
 * thousands of times. For one walk, whose first failure ends it.
 */
export function visitOnce(visit: Visit): Visit {
  const visits = new Map<string, Promise<readonly ImageDescriptor[]>>();
  return (ctx, descriptor) => {
    const { mediaType, digest, sizeBytes, platform } = descriptor;
    const key = JSON.stringify([mediaType, digest, sizeBytes, platform]);
    const visited = visits.get(key) ?? visit(ctx, descriptor);
    visits.set(key, visited);
    return visited;
  };
}

/** What one walk has met so far, repeated references counted each time. */
export class ReferenceCount {
  #count = 0;

  /** Throws `resource-exhausted` above 10000. */
  admit(descriptors: readonly ImageDescriptor[]): readonly ImageDescriptor[] {
    this.#count += descriptors.length;
    assertReferences(this.#count);
    return descriptors;
  }
}

/** Throws `resource-exhausted` for more references than any walk goes along. */
export function assertReferences(count: number): void {
  if (count > referencesMax) {
    throw resourceExhausted(`too many descriptors (limit ${referencesMax})`);
  }
}
