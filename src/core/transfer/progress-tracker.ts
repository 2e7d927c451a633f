import { refKey } from "#core/images/ref-key.ts";
import type { Progress } from "#core/transfer/transfer.ts";
import type { Digest } from "#pkg/digest.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";

/** A step of one piece is told no more often than this. */
const stepMs = 100;
/** Of a piece that many name, only so many are told. */
const parentsMax = 32;

interface Job {
  readonly name: string;
  readonly parents: readonly string[];
  toldAtMs: number;
}

/**
 * Tells what becomes of each piece of content, as a tree below the image: `waiting`, `downloading` or `uploading` with
 * bytes, `complete` or `already exists`, and for layers `extracting`, `extracted`.
 */
export class ProgressTracker {
  readonly #root: string;
  readonly #moving: "downloading" | "uploading";
  readonly #tell: (progress: Progress) => void;
  readonly #parents = new Map<Digest, string[]>();
  readonly #jobs = new Map<Digest, Job>();

  constructor(
    root: string,
    moving: "downloading" | "uploading",
    tell: ((progress: Progress) => void) | undefined,
  ) {
    this.#root = root;
    this.#moving = moving;
    this.#tell = tell ?? (() => {});
  }

  /** Before the children are added: a piece is told under the parents known then. */
  addChildren(parent: ImageDescriptor, children: readonly ImageDescriptor[]): void {
    const name = refKey(parent);
    for (const { digest } of children) {
      const parents = this.#parents.get(digest) ?? [];
      if (parents.length < parentsMax && !parents.includes(name)) parents.push(name);
      this.#parents.set(digest, parents);
    }
  }

  add(descriptor: ImageDescriptor): void {
    if (!this.#jobs.has(descriptor.digest)) this.#send("waiting", descriptor, 0);
  }

  moved(descriptor: ImageDescriptor, doneBytes: number): void {
    const job = this.#job(descriptor);
    const now = performance.now();
    if (now - job.toldAtMs < stepMs) return;
    job.toldAtMs = now;
    this.#send(this.#moving, descriptor, doneBytes);
  }

  completed(descriptor: ImageDescriptor): void {
    this.#send("complete", descriptor, descriptor.sizeBytes);
  }

  existed(descriptor: ImageDescriptor): void {
    this.#send("already exists", descriptor, descriptor.sizeBytes);
  }

  extracting(descriptor: ImageDescriptor): void {
    this.#send("extracting", descriptor, 0);
  }

  extracted(descriptor: ImageDescriptor): void {
    this.#send("extracted", descriptor, descriptor.sizeBytes);
  }

  #send(event: string, descriptor: ImageDescriptor, doneBytes: number): void {
    const { name, parents } = this.#job(descriptor);
    this.#tell({ event, name, parents, doneBytes, totalBytes: descriptor.sizeBytes, descriptor });
  }

  #job(descriptor: ImageDescriptor): Job {
    const { digest } = descriptor;
    const known = this.#jobs.get(digest);
    if (known) return known;
    const parents = this.#parents.get(digest) ?? [this.#root];
    const job = { name: refKey(descriptor), parents, toldAtMs: 0 };
    this.#jobs.set(digest, job);
    return job;
  }
}
