import assert from "node:assert";
import { type PaxRecord, parsePaxRecords } from "#pkg/archive/pax.ts";
import {
  assertSparse,
  parseGnuSparseExtension,
  parseGnuSparseHeader,
  SparseMapReader,
  sparseMapBytesMax,
} from "#pkg/archive/sparse.ts";
import { type Draft, draftEntry, finishEntry } from "#pkg/archive/tar-draft.ts";
import { type Extent, invalidArchive, shown, type TarEntry } from "#pkg/archive/tar-entry.ts";
import { blockBytes, isZeroBlock, parseHeaderBlock } from "#pkg/archive/tar-header.ts";

/** Takes what a reader finds, in the order of the archive. What it throws ends the reading. */
export interface TarHandler {
  begin(entry: TarEntry): void;
  /**
   * Bytes of the file that began last, at `offset` in it; holes of sparse files are left out. Valid
   * only now.
   */
  data(chunk: Buffer, offset: number): void;
  /** The entry that began last is complete. */
  end(): void;
}

export interface TarLimits {
  readonly entriesMax: number;
  /** Of one extended header or GNU long name. */
  readonly extensionBytesMax: number;
}

const defaultLimits: TarLimits = { entriesMax: 1 << 24, extensionBytesMax: 1 << 20 };

type State = "header" | "extension" | "gnu-map" | "sparse-map" | "data" | "padding" | "ended";

/**
 * Parses an archive pushed in chunks of any size: v7, ustar, star, PAX and GNU, with every sparse
 * form.
 *
 * Global extended headers are read over. Throws `invalid-argument` for what is malformed or beyond
 * the limits; the reader is of no use after that. Bytes after the end of the archive are ignored.
 */
export class TarReader {
  readonly #handler: TarHandler;
  readonly #limits: TarLimits;
  #state: State = "header";
  /** Bytes of the current state still to come; blocks are counted by themselves. */
  #left = 0;
  #padding = 0;
  #entries = 0;
  #sawZeroBlock = false;

  readonly #block = Buffer.alloc(blockBytes);
  #blockFill = 0;

  // Extensions of the next entry.
  #extension: { typeflag: string; chunks: Buffer[] } | undefined;
  #pax: readonly PaxRecord[] = [];
  #longName: string | undefined;
  #longLink: string | undefined;

  // The entry being read.
  #draft: Draft | undefined;
  #sparseMap: SparseMapReader | undefined;
  #mapBytes = 0;
  #extents: readonly Extent[] | undefined;
  #extent = 0;
  #offset = 0;

  constructor(handler: TarHandler, limits: Partial<TarLimits> = {}) {
    this.#handler = handler;
    this.#limits = { ...defaultLimits, ...limits };
  }

  /** True once the end of the archive was read: only ignored bytes can follow. */
  get ended(): boolean {
    return this.#state === "ended";
  }

  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      switch (this.#state) {
        case "header":
        case "gnu-map":
        case "sparse-map":
          at += this.#pushBlock(chunk, at);
          break;
        case "extension":
        case "data": {
          const part = chunk.subarray(at, at + this.#left);
          at += part.length;
          this.#left -= part.length;
          if (this.#state === "data") this.#pushData(part);
          else this.#extension?.chunks.push(Buffer.from(part));
          if (this.#left === 0) this.#pad();
          break;
        }
        case "padding": {
          const skipped = Math.min(this.#left, chunk.length - at);
          at += skipped;
          this.#left -= skipped;
          if (this.#left === 0) this.#endMember();
          break;
        }
        case "ended":
          return;
      }
    }
  }

  /** Says that nothing follows; throws `invalid-argument` when the archive was cut off. */
  finish(): void {
    if (this.#state === "ended") return;
    // An archive may end without its two blocks of zeros, but only between members.
    if (this.#state === "header" && this.#blockFill === 0 && !this.#hasExtension()) return;
    const name = this.#draft === undefined ? "" : ` in ${shown(this.#draft.name)}`;
    throw invalidArchive(`archive ends early${name}: unexpected EOF`);
  }

  #hasExtension(): boolean {
    return this.#pax.length > 0 || this.#longName !== undefined || this.#longLink !== undefined;
  }

  /** Passes a whole block on; returns how many bytes of the chunk it took. */
  #pushBlock(chunk: Buffer, at: number): number {
    if (this.#blockFill === 0 && chunk.length - at >= blockBytes) {
      this.#onBlock(chunk.subarray(at, at + blockBytes));
      return blockBytes;
    }
    const taken = chunk.copy(this.#block, this.#blockFill, at);
    this.#blockFill += taken;
    if (this.#blockFill === blockBytes) {
      this.#blockFill = 0;
      this.#onBlock(this.#block);
    }
    return taken;
  }

  #onBlock(block: Buffer): void {
    if (this.#state === "gnu-map") return this.#onGnuExtension(block);
    if (this.#state === "sparse-map") return this.#onSparseMap(block);
    if (isZeroBlock(block)) {
      if (this.#sawZeroBlock) this.#state = "ended";
      this.#sawZeroBlock = true;
      return;
    }
    if (this.#sawZeroBlock) throw invalidArchive("a lone block of zeros inside the archive");
    this.#onHeader(block);
  }

  #onHeader(block: Buffer): void {
    const raw = parseHeaderBlock(block);
    if ("xgLK".includes(raw.typeflag)) {
      if (raw.sizeBytes > this.#limits.extensionBytesMax) {
        const max = this.#limits.extensionBytesMax;
        throw invalidArchive(`extended header of ${raw.sizeBytes} bytes, at most ${max}`);
      }
      this.#extension = { typeflag: raw.typeflag, chunks: [] };
      this.#startBytes("extension", raw.sizeBytes);
      return;
    }
    if (++this.#entries > this.#limits.entriesMax) {
      throw invalidArchive(`more than ${this.#limits.entriesMax} entries`);
    }
    const draft = draftEntry(raw, this.#pax, this.#longName, this.#longLink);
    this.#pax = [];
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#draft = draft;
    this.#mapBytes = 0;
    if (raw.typeflag === "S") {
      const { extents, extended, sizeBytes } = parseGnuSparseHeader(block);
      draft.extents = extents;
      draft.sizeBytes = sizeBytes;
      if (extended) this.#state = "gnu-map";
      else this.#beginEntry();
    } else if (draft.mapInData) {
      this.#sparseMap = new SparseMapReader();
      this.#state = "sparse-map";
    } else {
      this.#beginEntry();
    }
  }

  #onGnuExtension(block: Buffer): void {
    const draft = this.#currentDraft();
    const { extents, extended } = parseGnuSparseExtension(block);
    this.#mapBytes += blockBytes;
    if (this.#mapBytes > sparseMapBytesMax) {
      throw invalidArchive(`sparse map is longer than ${sparseMapBytesMax} bytes`);
    }
    draft.extents = (draft.extents ?? []).concat(extents);
    if (!extended) this.#beginEntry();
  }

  #onSparseMap(block: Buffer): void {
    const draft = this.#currentDraft();
    const map = this.#sparseMap;
    assert(map, "a sparse map is read only after a header that announced it");
    draft.storedBytes -= blockBytes;
    if (draft.storedBytes < 0) throw invalidArchive("sparse map is longer than its entry");
    if (!map.push(block)) return;
    draft.extents = map.extents();
    this.#sparseMap = undefined;
    this.#beginEntry();
  }

  #currentDraft(): Draft {
    assert(this.#draft, "a block of an entry comes only after its header");
    return this.#draft;
  }

  #beginEntry(): void {
    const draft = this.#currentDraft();
    if (draft.extents) assertSparse(draft.extents, draft.sizeBytes, draft.storedBytes);
    this.#extents = draft.extents;
    this.#extent = 0;
    this.#offset = draft.extents?.[0]?.offset ?? 0;
    this.#handler.begin(finishEntry(draft));
    this.#startBytes("data", draft.storedBytes);
  }

  #startBytes(state: "data" | "extension", sizeBytes: number): void {
    this.#left = sizeBytes;
    this.#padding = (blockBytes - (sizeBytes % blockBytes)) % blockBytes;
    this.#state = state;
    if (sizeBytes === 0) this.#endMember();
  }

  #pad(): void {
    this.#left = this.#padding;
    if (this.#padding === 0) this.#endMember();
    else this.#state = "padding";
  }

  #endMember(): void {
    this.#state = "header";
    if (this.#extension) {
      this.#onExtension(this.#extension.typeflag, Buffer.concat(this.#extension.chunks));
      this.#extension = undefined;
      return;
    }
    this.#draft = undefined;
    this.#handler.end();
  }

  #onExtension(typeflag: string, data: Buffer): void {
    if (typeflag === "x") this.#pax = parsePaxRecords(data);
    else if (typeflag === "L") this.#longName = untilNul(data);
    else if (typeflag === "K") this.#longLink = untilNul(data);
  }

  #pushData(part: Buffer): void {
    if (this.#extents === undefined) {
      this.#handler.data(part, this.#offset);
      this.#offset += part.length;
      return;
    }
    let at = 0;
    while (at < part.length) {
      const extent: Extent | undefined = this.#extents[this.#extent];
      assert(extent, "the map was checked to name as many bytes as are stored");
      const end = extent.offset + extent.lengthBytes;
      const piece = part.subarray(at, at + (end - this.#offset));
      if (piece.length > 0) this.#handler.data(piece, this.#offset);
      at += piece.length;
      this.#offset += piece.length;
      if (this.#offset === end) {
        this.#extent++;
        this.#offset = this.#extents[this.#extent]?.offset ?? end;
      }
    }
  }
}

function untilNul(data: Buffer): string {
  const nul = data.indexOf(0);
  return data.toString("latin1", 0, nul < 0 ? data.length : nul);
}
