import { echo, exportImages } from "#core/transfer/export.ts";
import { importImages } from "#core/transfer/import.ts";
import { type LocalParts, withLease } from "#core/transfer/local.ts";
import { pullImage } from "#core/transfer/pull.ts";
import { pushImage } from "#core/transfer/push.ts";
import { storeImages } from "#core/transfer/store-object.ts";
import type {
  StoreObject,
  TransferObject,
  TransferOptions,
  Transferrer,
} from "#core/transfer/transfer.ts";
import type { Context } from "#pkg/context.ts";
import { notImplemented } from "#pkg/errors.ts";

/** Transfers within the daemon, against its own stores. */
export class LocalTransferrer implements Transferrer {
  readonly #parts: LocalParts;

  constructor(parts: LocalParts) {
    this.#parts = parts;
  }

  async transfer(
    ctx: Context,
    source: TransferObject,
    destination: TransferObject,
    options: TransferOptions = {},
  ): Promise<void> {
    const parts = this.#parts;
    const leased = (run: (ctx: Context) => Promise<void>): Promise<void> => {
      return withLease(ctx, parts.leases, run);
    };
    if (source.kind === "registry" && destination.kind === "store") {
      return leased((held) => pullImage(held, parts, source, destination, options));
    }
    if (source.kind === "store" && destination.kind === "registry") {
      return pushImage(ctx, parts, source, destination, options);
    }
    if (source.kind === "import" && destination.kind === "store") {
      return leased((held) => importImages(held, parts, source, destination, options));
    }
    if (source.kind === "import" && destination.kind === "export") {
      return echo(ctx, source, destination);
    }
    if (source.kind === "store" && destination.kind === "export") {
      return leased((held) => exportImages(held, parts, source, destination, options));
    }
    if (source.kind === "store" && destination.kind === "store") {
      return leased((held) => this.#tag(held, source, destination));
    }
    throw notImplemented(`unable to transfer from ${source.kind} to ${destination.kind}`);
  }

  async #tag(ctx: Context, source: StoreObject, destination: StoreObject): Promise<void> {
    const { images } = this.#parts;
    const { target } = await images.get(ctx, source.name);
    await storeImages(ctx, images, destination, { target, isArchived: false });
  }
}
