import type { TarEntry } from "#pkg/archive/tar-entry.ts";
import { type TarLimits, TarReader } from "#pkg/archive/tar-reader.ts";

export type TarEvent =
  | { readonly kind: "begin"; readonly entry: TarEntry }
  /** Valid until the next events are asked for. */
  | { readonly kind: "data"; readonly chunk: Buffer; readonly offset: number }
  | { readonly kind: "end" };

/** Reads an archive at the pace of its consumer: the events of one chunk at a time. Stops at the archive's end. */
export async function* tarEvents(
  bytes: AsyncIterable<Buffer>,
  limits: Partial<TarLimits>,
): AsyncGenerator<readonly TarEvent[], void, undefined> {
  let events: TarEvent[] = [];
  const reader = new TarReader(
    {
      begin: (entry) => events.push({ kind: "begin", entry }),
      data: (chunk, offset) => events.push({ kind: "data", chunk, offset }),
      end: () => events.push({ kind: "end" }),
    },
    limits,
  );
  const take = (): TarEvent[] => {
    const taken = events;
    events = [];
    return taken;
  };
  for await (const chunk of bytes) {
    reader.push(chunk);
    yield take();
    if (reader.ended) return;
  }
  reader.finish();
  yield take();
}
