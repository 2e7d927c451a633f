import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { Envelope, Publisher } from "#core/events/events.ts";
import type { Metadata } from "#core/metadata/metadata.ts";
import { type MetadataOptions, openMetadata } from "#core/metadata/open.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import { Context, requireNamespace } from "#pkg/context.ts";
import type { Failpoints } from "#pkg/failpoint.ts";
import { nowNanos } from "#pkg/time.ts";
import { LocalContentStore } from "#plugins/content/local/local-content-store.ts";
import { FileSnapshotter } from "#test/integration/metadata/file-snapshotter.ts";

/** Keeps what was published, in order. */
export class EventLog implements Publisher {
  readonly events: Envelope[] = [];

  async publish(ctx: Context, topic: string, event: Envelope["event"]): Promise<void> {
    this.events.push({ timestamp: nowNanos(), namespace: requireNamespace(ctx), topic, event });
  }

  get topics(): string[] {
    return this.events.map((event) => event.topic);
  }
}

export interface DaemonStorage extends AsyncDisposable {
  readonly root: string;
  readonly content: LocalContentStore;
  readonly snapshotter: FileSnapshotter;
  readonly metadata: Metadata;
  readonly overlay: Snapshotter;
  readonly events: EventLog;
}

/** What a daemon has of storage, below one directory; opening the same again is a restart. */
export async function openStorage(
  root: string,
  options: Partial<MetadataOptions> & { failpoints?: Failpoints | undefined } = {},
): Promise<DaemonStorage> {
  await using stack = new AsyncDisposableStack();
  const { failpoints } = options;
  const content = stack.use(await LocalContentStore.open(join(root, "content"), { failpoints }));
  const snapshotter = stack.use(await FileSnapshotter.open(join(root, "snapshots"), failpoints));
  const events = new EventLog();
  await mkdir(join(root, "metadata"), { recursive: true });
  const metadata = stack.use(
    await openMetadata(Context.background(), {
      path: join(root, "metadata", "meta.sqlite"),
      content,
      snapshotters: new Map([["overlayfs", snapshotter]]),
      publisher: events,
      ...options,
    }),
  );
  const overlay = metadata.snapshotters.get("overlayfs");
  if (!overlay) throw new Error("overlayfs is not there");
  const resources = stack.move();
  return {
    root,
    content,
    snapshotter,
    metadata,
    overlay,
    events,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

export async function testStorage(
  t: TestContext,
  options: Partial<MetadataOptions> = {},
): Promise<DaemonStorage> {
  const root = await mkdtemp(join(tmpdir(), "metadata-test-"));
  const storage = await openStorage(root, options);
  t.after(async () => {
    await storage[Symbol.asyncDispose]();
    await rm(root, { recursive: true });
  });
  return storage;
}

export const inNamespace = (namespace: string): Context => Context.background({ namespace });
