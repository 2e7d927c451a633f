import { imageCreate, imageDelete, imageUpdate } from "#core/events/convert.ts";
import { topics } from "#core/events/topics.ts";
import type { Collector } from "#core/gc/gc.ts";
import type { Image, ImageStore } from "#core/images/images.ts";
import { expiresMs } from "#core/metadata/gc-labels.ts";
import type { MetadataState } from "#core/metadata/state.ts";
import type { NodeId, Transaction } from "#core/metadata/transaction.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { parseDigest } from "#pkg/digest.ts";
import { alreadyExists, invalidArgument, notFound, wrap } from "#pkg/errors.ts";
import { keysByField, maskedKeys } from "#pkg/field-mask.ts";
import { type Adaptor, field, labelField } from "#pkg/filters/filter.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { assertLabels, withoutEmpty } from "#pkg/label.ts";
import { bigint, encodeMap, number, type Row, stringMap, text } from "#pkg/sqlite/row.ts";
import { nowNanos, type UnixNanos } from "#pkg/time.ts";

type Given = Pick<Image, "name" | "labels" | "target">;

const selectImage = `SELECT n.key, i.* FROM nodes n JOIN images i ON i.node = n.id
  WHERE n.ns = ? AND n.kind = 'image'`;

export class NamespacedImageStore implements ImageStore {
  readonly #state: MetadataState;
  readonly #collector: Collector;

  constructor(state: MetadataState, collector: Collector) {
    this.#state = state;
    this.#collector = collector;
  }

  async get(ctx: Context, name: string): Promise<Image> {
    const ns = requireNamespace(ctx);
    const found = await this.#state.view((tx) => findImage(tx, ns, name));
    if (!found) throw unknownImage(name);
    return found.image;
  }

  async list(ctx: Context, filters?: readonly string[]): Promise<readonly Image[]> {
    const ns = requireNamespace(ctx);
    const matches = parseFilters(filters);
    const images = await this.#state.view((tx) =>
      tx.sql.all(`${selectImage} ORDER BY n.key`, ns).map(decodeImage),
    );
    return images.filter((image) => matches(imageField(image)));
  }

  async create(
    ctx: Context,
    given: Given,
    options: { readonly createdAt?: UnixNanos | undefined } = {},
  ): Promise<Image> {
    const ns = requireNamespace(ctx);
    const at = options.createdAt ?? nowNanos();
    const image = { ...stored(given), createdAt: at, updatedAt: at };
    assertImage(image);
    await this.#state.update((tx) => {
      tx.ensureNamespace(ns);
      if (findImage(tx, ns, image.name)) throw alreadyExists(`image "${image.name}"`);
      writeImage(tx, ctx, ns, image);
    });
    await this.#state.publish(ctx, topics.imageCreate, imageCreate(image));
    return image;
  }

  async update(
    ctx: Context,
    given: Given,
    fields: readonly string[] = [],
    options: { readonly updatedAt?: UnixNanos | undefined } = {},
  ): Promise<Image> {
    const ns = requireNamespace(ctx);
    if (given.name === "") throw invalidArgument("image name is required for update");
    const image = await this.#state.update((tx) => {
      const found = findImage(tx, ns, given.name);
      if (!found) throw unknownImage(given.name);
      const updatedAt = options.updatedAt ?? nowNanos();
      const updated = { ...stored(masked(found.image, given, fields)), updatedAt };
      assertImage(updated);
      const image = { ...updated, createdAt: found.image.createdAt };
      writeImage(tx, ctx, ns, image);
      return image;
    });
    await this.#state.publish(ctx, topics.imageUpdate, imageUpdate(image));
    return image;
  }

  async delete(
    ctx: Context,
    name: string,
    options: { readonly sync?: boolean | undefined; readonly target?: Descriptor | undefined } = {},
  ): Promise<void> {
    const ns = requireNamespace(ctx);
    await this.#state.update((tx) => {
      const found = findImage(tx, ns, name);
      if (!found) throw unknownImage(name);
      const { digest } = found.image.target;
      if (options.target && options.target.digest !== digest) {
        throw notFound(`image "${name}" has target ${digest}, not ${options.target.digest}`);
      }
      tx.removeFromLease(ctx, found.node);
      tx.sql.run("DELETE FROM images WHERE node = ?", found.node);
      tx.clearLinks(found.node);
      tx.dirty = true;
    });
    await this.#state.publish(ctx, topics.imageDelete, imageDelete({ name }));
    if (options.sync) await this.#collector.scheduleAndWait(ctx);
  }
}

function unknownImage(name: string): Error {
  return notFound(`image "${name}"`);
}

function stored<T extends Given>(image: T): T {
  const annotations = withoutEmpty(image.target.annotations);
  return { ...image, labels: withoutEmpty(image.labels), target: { ...image.target, annotations } };
}

function masked(current: Image, given: Given, fields: readonly string[]): Given {
  let { labels, target } = fields.length === 0 ? given : current;
  for (const [field, keys] of keysByField(fields, ["labels", "annotations"])) {
    if (field === "labels") labels = maskedKeys(labels, given.labels, keys);
    else if (field === "annotations") {
      const annotations = maskedKeys(target.annotations, given.target.annotations, keys);
      target = { ...target, annotations };
    } else if (field === "target") target = given.target;
    else throw invalidArgument(`cannot update "${field}" field on image "${given.name}"`);
  }
  return { name: given.name, labels, target };
}

function assertImage({ name, labels, target }: Given): void {
  if (name === "") throw invalidArgument("image name must not be empty");
  try {
    assertLabels(labels);
  } catch (error) {
    throw wrap("image.Labels", error);
  }
  try {
    parseDigest(target.digest);
  } catch (error) {
    throw wrap("target.Digest", error);
  }
  if (!(target.sizeBytes > 0)) throw invalidArgument("target.Size must be greater than zero");
  if (target.mediaType === "") throw invalidArgument("target.MediaType must be set");
}

function findImage(
  tx: Transaction,
  ns: string,
  name: string,
): { readonly node: NodeId; readonly image: Image } | undefined {
  const row = tx.sql.get(`${selectImage} AND n.key = ?`, ns, name);
  return row && { node: bigint(row, "node"), image: decodeImage(row) };
}

function decodeImage(row: Row): Image {
  return {
    name: text(row, "key"),
    labels: stringMap(row, "labels"),
    target: {
      digest: parseDigest(text(row, "digest")),
      mediaType: text(row, "media_type"),
      sizeBytes: number(row, "size"),
      annotations: stringMap(row, "annotations"),
    },
    createdAt: bigint(row, "created_at"),
    updatedAt: bigint(row, "updated_at"),
  };
}

function writeImage(tx: Transaction, ctx: Context, ns: string, image: Image): void {
  const { target, labels } = image;
  const expires = expiresMs(labels);
  const node = tx.node(ns, "image", image.name);
  // One that never expires is a root and needs no lease.
  if (labels["containerd.io/gc.expire"] !== undefined) tx.addToLease(ctx, node);
  const content = tx.node(ns, "content", target.digest);
  tx.sql.run(
    `INSERT OR REPLACE INTO images (node, target, digest, media_type, size, annotations,
       expires_ms, labels, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    node,
    content,
    target.digest,
    target.mediaType,
    target.sizeBytes,
    encodeMap(target.annotations),
    expires ?? null,
    encodeMap(labels),
    image.createdAt,
    image.updatedAt,
  );
  tx.setLinks(ns, node, labels, [content]);
}

/** What filters see of an image. */
export function imageField(image: Image): Adaptor {
  return (path) => {
    switch (path[0]) {
      case "name":
        return field(image.name);
      case "target":
        if (path[1] === "digest") return image.target.digest;
        return path[1] === "mediatype" ? field(image.target.mediaType) : undefined;
      case "labels":
        return labelField(image.labels, path);
      case "annotations":
        return labelField(image.target.annotations, path);
      default:
        return undefined;
    }
  };
}
