import type {
  Resource,
  ResourceCollection,
  ResourceCollector,
  ResourceParent,
} from "#core/gc/gc.ts";
import type { Stream, StreamManager } from "#core/streaming/streaming.ts";
import type { Context } from "#pkg/context.ts";
import { alreadyExists, CodedError, invalidArgument, notFound } from "#pkg/errors.ts";

const nameBytesMax = 1024;
/** Far more than any client has; each holds a call open. */
const streamsMax = 10_000;

interface Entry {
  readonly stream: Stream;
  readonly lease: string | undefined;
}

/** The streams of this daemon. They live in memory: a stream is a call, and ends with it. */
export class LocalStreams implements StreamManager, ResourceCollector {
  readonly kind = "stream";
  readonly #namespaces = new Map<string, Map<string, Entry>>();
  #count = 0;

  register(ctx: Context, name: string, stream: Stream): Disposable {
    if (name === "" || Buffer.byteLength(name) > nameBytesMax) {
      throw invalidArgument(
        `stream name of ${Buffer.byteLength(name)} bytes, 1 to ${nameBytesMax}`,
      );
    }
    const namespace = ctx.namespace ?? "";
    if (this.#namespaces.get(namespace)?.has(name)) {
      throw alreadyExists(`stream ${JSON.stringify(name)}`);
    }
    if (this.#count >= streamsMax) {
      throw new CodedError("resource-exhausted", `more than ${streamsMax} streams`);
    }
    const entry = { stream, lease: ctx.lease };
    const streams = this.#namespaces.get(namespace) ?? new Map<string, Entry>();
    this.#namespaces.set(namespace, streams.set(name, entry));
    this.#count++;
    return { [Symbol.dispose]: () => this.#drop(namespace, name, entry) };
  }

  get(ctx: Context, name: string): Stream {
    const entry = this.#namespaces.get(ctx.namespace ?? "")?.get(name);
    if (!entry) throw notFound(`stream ${JSON.stringify(name.slice(0, nameBytesMax))}`);
    return entry.stream;
  }

  start(ctx: Context): ResourceCollection {
    const doomed: { resource: Resource; entry: Entry }[] = [];
    return {
      all: () => this.#resources(() => true),
      // A leased stream lives by its lease alone.
      active: () => this.#resources((entry) => entry.lease === undefined),
      leased: (namespace, lease) =>
        this.#resources((entry, of) => of === namespace && entry.lease === lease),
      parents: (): ResourceParent[] => [],
      remove: (resource) => {
        const entry = this.#namespaces.get(resource.namespace)?.get(resource.key);
        if (entry) doomed.push({ resource, entry });
      },
      finish: async () => {
        for (const { resource, entry } of doomed) {
          this.#drop(resource.namespace, resource.key, entry);
          ctx.logger.debug("stream collected", { stream: resource.key });
        }
        await Promise.all(doomed.map(({ entry }) => entry.stream.close()));
      },
      cancel: () => {
        doomed.length = 0;
      },
    };
  }

  *#resources(wanted: (entry: Entry, namespace: string) => boolean): Generator<Resource> {
    for (const [namespace, streams] of this.#namespaces) {
      for (const [key, entry] of streams) if (wanted(entry, namespace)) yield { namespace, key };
    }
  }

  /** Only this very entry: the name may have been given again. */
  #drop(namespace: string, name: string, entry: Entry): void {
    const streams = this.#namespaces.get(namespace);
    if (streams?.get(name) !== entry) return;
    streams.delete(name);
    this.#count--;
    if (streams.size === 0) this.#namespaces.delete(namespace);
  }
}
