import { randomUUID } from "node:crypto";
import { Transfer } from "#api/services/transfer/v1/transfer_pb.ts";
import { ImageStoreSchema } from "#api/types/transfer/imagestore_pb.ts";
import {
  ImageExportStreamSchema,
  ImageImportStreamSchema,
} from "#api/types/transfer/importexport_pb.ts";
import { ProgressSchema } from "#api/types/transfer/progress_pb.ts";
import { HTTPDebug, OCIRegistrySchema } from "#api/types/transfer/registry_pb.ts";
import { anyToWire, fromAny, toAny } from "#core/streaming/convert.ts";
import { GrpcStreams } from "#core/streaming/proxy.ts";
import { credentialsFrom } from "#core/remotes/credentials.ts";
import type { Stream } from "#core/streaming/streaming.ts";
import { answerQuestions } from "#core/transfer/auth-convert.ts";
import { ByteSender, receiveBytes } from "#core/transfer/byte-stream.ts";
import { QuietEnd } from "#core/transfer/quiet-end.ts";
import type {
  ExportObject,
  ImportObject,
  Progress,
  RegistryObject,
  StoreObject,
  TransferObject,
  TransferOptions,
  Transferrer,
} from "#core/transfer/transfer.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { parseDigest } from "#pkg/digest.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client, Transport } from "#pkg/rpc/service.ts";
import { toSize } from "#pkg/safe-integer.ts";
import { TaskGroup } from "#pkg/task-group.ts";

/** A daemon's transfers, over gRPC: what one side reads or writes here goes over streams beside the call. */
export class GrpcTransferrer implements Transferrer {
  readonly #client: Client<typeof Transfer>;
  readonly #streams: GrpcStreams;

  constructor(transport: Transport) {
    this.#client = createClient(Transfer, transport);
    this.#streams = new GrpcStreams(transport);
  }

  async transfer(
    ctx: Context,
    source: TransferObject,
    destination: TransferObject,
    { progress }: TransferOptions = {},
  ): Promise<void> {
    const controller = new AbortController();
    const scoped = ctx.withSignal(controller.signal);
    const own = new OwnWork(scoped, controller);
    // What serves the daemon's questions ends with the call; what takes its bytes is waited for.
    await using group = new TaskGroup(scoped.signal);
    const sides = new Sides(scoped, { streams: this.#streams, group, own });
    try {
      const request = {
        source: anyToWire(await sides.open(source)),
        destination: anyToWire(await sides.open(destination)),
        options: { progressStream: progress ? await sides.openProgress(progress) : "" },
      };
      await this.#client.transfer(scoped, request);
      await sides.received();
    } catch (error) {
      // -- whatever the work threw; it is passed on as it came
      throw own.failure ? own.failure.error : error;
    } finally {
      controller.abort();
    }
  }
}

/**
 * What a transfer does on this side: reading, writing, looking for credentials. Its first failure ends the call, whose
 * daemon would wait for ever or make something else of it.
 */
class OwnWork {
  readonly #ctx: Context;
  readonly #call: AbortController;
  #failure: { readonly error: unknown } | undefined;

  constructor(ctx: Context, call: AbortController) {
    this.#ctx = ctx;
    this.#call = call;
  }

  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  async *each(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* chunks;
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  #fail(error: unknown): void {
    // Work that is given up with the call has not failed.
    if (this.#ctx.signal.aborted) return;
    this.#failure = { error };
    this.#call.abort();
  }
}

interface Serving {
  readonly streams: GrpcStreams;
  readonly group: TaskGroup;
  readonly own: OwnWork;
}

/** What the streams of one transfer are served with. */
class Sides {
  readonly #ctx: Context;
  readonly #streams: GrpcStreams;
  readonly #group: TaskGroup;
  readonly #own: OwnWork;
  readonly #receiving: Promise<void>[] = [];
  readonly #ends: QuietEnd[] = [];

  constructor(ctx: Context, { streams, group, own }: Serving) {
    this.#ctx = ctx;
    this.#streams = streams;
    this.#group = group;
    this.#own = own;
  }

  async open(object: TransferObject): Promise<Any> {
    switch (object.kind) {
      case "store":
        return storeToAny(object);
      case "registry":
        return this.#openRegistry(object);
      case "import":
        return this.#openImport(object);
      case "export":
        return this.#openExport(object);
    }
  }

  async openProgress(progress: (step: Progress) => void): Promise<string> {
    const { id, stream } = await this.#create("progress");
    this.#receive(async (ctx) => {
      for (let next = await stream.receive(ctx); next; next = await stream.receive(ctx)) {
        const step = progressFromAny(next);
        await this.#own.run(async () => progress(step));
      }
    });
    return id;
  }

  /** Resolves when all bytes and steps that the daemon sent have been taken. */
  async received(): Promise<void> {
    for (const end of this.#ends) end.answered();
    await Promise.all(this.#receiving);
  }

  async #openRegistry(registry: RegistryObject): Promise<Any> {
    const { reference, headers, hostDir, defaultScheme, credentials, httpDump } = registry;
    let authStream = "";
    if (credentials) {
      const { id, stream } = await this.#create("creds");
      const source = credentialsFrom("the client", (ctx, host) => {
        return this.#own.run(() => credentials.get(ctx, host));
      });
      this.#serve((ctx) => answerQuestions(ctx, stream, source));
      authStream = id;
    }
    let logsStream = "";
    if (httpDump) {
      const { id, stream } = await this.#create("http-debug-logs");
      this.#receive(async (ctx) => {
        for await (const text of receiveBytes(ctx, stream)) {
          await this.#own.run(async () => httpDump(text.toString()));
        }
      });
      logsStream = id;
    }
    const httpDebug = httpDump ? HTTPDebug.DEBUG : HTTPDebug.DISABLED;
    const resolver = {
      headers: { ...headers },
      hostDir,
      defaultScheme,
      authStream,
      httpDebug,
      logsStream,
    };
    return toAny(OCIRegistrySchema, { reference, resolver });
  }

  async #openImport(object: ImportObject): Promise<Any> {
    const { id, stream } = await this.#create("import");
    const sender = new ByteSender(stream);
    this.#serve(async (ctx) => {
      for await (const chunk of this.#own.each(object.read(ctx))) await sender.write(ctx, chunk);
      await sender.finish(ctx);
    });
    const { mediaType, forceCompress } = object;
    return toAny(ImageImportStreamSchema, { stream: id, mediaType, forceCompress });
  }

  async #openExport(object: ExportObject): Promise<Any> {
    const { id, stream } = await this.#create("export");
    const end = new QuietEnd();
    this.#ends.push(end);
    this.#receive(async (ctx) => {
      using _end = end;
      try {
        for await (const chunk of receiveBytes(ctx.withSignal(end.signal), stream)) {
          end.busy();
          await this.#own.run(() => object.write(ctx, chunk));
          end.waiting();
        }
      } catch (error) {
        if (!end.signal.aborted) throw error;
      }
      await this.#own.run(() => object.finish(ctx));
    });
    return toAny(ImageExportStreamSchema, {
      stream: id,
      mediaType: object.mediaType,
      platforms: object.platforms.map(platformToWire),
      allPlatforms: object.allPlatforms,
      skipCompatibilityManifest: object.skipCompatibilityManifest,
      skipNonDistributable: object.skipNonDistributable,
    });
  }

  async #create(what: string): Promise<{ id: string; stream: Stream }> {
    const id = `${what}-${randomUUID()}`;
    return { id, stream: await this.#streams.create(this.#ctx, id) };
  }

  /** The call's answer says whether it went well: a daemon that has read enough may leave before all is sent. */
  #serve(work: (ctx: Context) => Promise<void>): void {
    this.#group.go(async (signal) => {
      await work(this.#ctx.withSignal(signal)).catch((error: unknown) => {
        this.#ctx.logger.debug("a stream of a transfer ended early", { error });
      });
    });
  }

  #receive(work: (ctx: Context) => Promise<void>): void {
    const done = work(this.#ctx);
    this.#receiving.push(done);
    done.catch(() => {}); // thrown by `received`, unless the call itself failed
  }
}

function storeToAny(store: StoreObject): Any {
  return toAny(ImageStoreSchema, {
    name: store.name,
    labels: { ...store.labels },
    platforms: store.platforms.map(platformToWire),
    allMetadata: store.allMetadata,
    manifestLimit: store.manifestLimit,
    extraReferences: store.references.map((reference) => ({ ...reference })),
    unpacks: store.unpacks.map(({ platform, snapshotter }) => {
      return { platform: platformToWire(platform), snapshotter };
    }),
  });
}

function platformToWire(platform: StoreObject["platforms"][number]): {
  os: string;
  architecture: string;
  variant: string;
  osVersion: string;
  osFeatures: string[];
} {
  const { os, architecture, variant = "", osVersion = "", osFeatures = [] } = platform;
  return { os, architecture, variant, osVersion, osFeatures: [...osFeatures] };
}

function progressFromAny(any: Any): Progress {
  const { event, name, parents, progress, total, desc } = fromAny(any, ProgressSchema);
  return {
    event,
    ...(name !== "" && { name }),
    parents,
    doneBytes: toSize(progress, "progress"),
    totalBytes: toSize(total, "total"),
    ...(desc && {
      descriptor: {
        mediaType: desc.mediaType,
        digest: parseDigest(desc.digest),
        sizeBytes: toSize(desc.size, "size"),
        annotations: desc.annotations,
      },
    }),
  };
}
