import { stat } from "node:fs/promises";
import { isAbsolute } from "node:path";
import {
  CodedError,
  alreadyExists,
  invalidArgument,
  isErrno,
  notFound,
  unavailable,
} from "#pkg/errors.ts";
import { assertIdentifier } from "#pkg/identifier.ts";
import type { Container } from "./container.ts";
import { type CreateRequest, createContainer } from "./create-container.ts";
import type { Exit } from "./process-state.ts";
import type { ShimServices } from "./shim-services.ts";

// How long a supervisor stays for a container that somebody has announced and not yet created.
const reservationMs = 10_000;

/** The containers of one supervisor, and when it may end. */
export class Supervisor {
  readonly #services: ShimServices;
  readonly #onShutdown: () => void;
  readonly #containers = new Map<string, Container>();
  /** What is being made, or undone: settles when it is there, or nothing is left of it. */
  readonly #creating = new Map<string, Promise<unknown>>();
  /** What could not be taken over: it may run. */
  readonly #withheld = new Set<string>();
  readonly #reservations = new Map<string, NodeJS.Timeout>();
  #isShuttingDown = false;
  /** Somebody has said `Shutdown` while only a reservation stood against it. */
  #isUnwanted = false;

  /**
   * `onShutdown` is called once, in the turn in which the decision is made: from then on no
   * container is taken.
   */
  constructor(services: ShimServices, onShutdown: () => void) {
    this.#services = services;
    this.#onShutdown = onShutdown;
  }

  /** Throws `not-found` in upstream's words, and `unavailable` for one that may yet be there. */
  container(id: string): Container {
    const container = this.#containers.get(id);
    if (container !== undefined) return container;
    // Whoever hears that there is none cleans up, and would do it under a runtime at work.
    if (this.#creating.has(id)) throw unavailable(`container ${id} is being created`);
    if (this.#withheld.has(id)) throw unavailable(`container ${id} could not be taken over`);
    throw notFound("container not created");
  }

  tryContainer(id: string): Container | undefined {
    return this.#containers.get(id);
  }

  /**
   * Makes a container. Throws `already-exists` for an id that is in use, `unavailable` when the
   * supervisor is about to end: then nothing was done, and another supervisor will take it.
   */
  async create(request: CreateRequest): Promise<Container> {
    const { id, bundle } = request;
    assertIdentifier(id);
    await assertBundle(bundle);
    if (this.#isShuttingDown) throw shuttingDown();
    if (this.#containers.has(id) || this.#creating.has(id)) throw alreadyExists(`task ${id}`);
    this.#isUnwanted = false;
    this.#withheld.delete(id);
    const creation = this.#create(request);
    this.#creating.set(id, creation);
    return await creation;
  }

  /** Of one that may be there nobody hears that it is not, and cleans up after it. */
  withhold(id: string): void {
    this.#withheld.add(id);
  }

  isWithheld(id: string): boolean {
    return this.#withheld.has(id);
  }

  /** Takes in a container that an earlier supervisor has made. */
  add(container: Container): void {
    this.#withheld.delete(container.id);
    this.#containers.set(container.id, container);
  }

  /**
   * Keeps an id from being used, and this from ending, as long as what an earlier supervisor has
   * left of it is being undone.
   */
  occupy(id: string, undone: Promise<void>): void {
    this.#withheld.delete(id);
    this.#creating.set(id, undone);
    this.#services.tasks.go(async () => {
      try {
        await undone;
      } finally {
        this.#creating.delete(id);
      }
    });
  }

  /** Waits for one that is being created: its caller may have left in the middle. */
  async delete(id: string): Promise<Exit | undefined> {
    // -- of a failure its own caller hears, and nothing is left then
    await this.#creating.get(id)?.catch(() => {});
    const exit = await this.container(id).delete();
    this.#containers.delete(id);
    return exit;
  }

  /**
   * Keeps the supervisor from ending for a while: a container of that id is about to be created
   * here.
   *
   * Throws `unavailable` when it is too late for that.
   */
  reserve(id: string): void {
    if (this.#isShuttingDown) throw shuttingDown();
    if (this.#containers.has(id)) return;
    this.#release(id);
    const timer = setTimeout(() => this.#expire(id), reservationMs);
    this.#reservations.set(id, timer.unref());
  }

  /** Ends the supervisor, unless there is something left to supervise. */
  shutdown(): void {
    if (this.#isShuttingDown) return;
    if (this.#containers.size + this.#creating.size > 0) return;
    this.#isUnwanted = true;
    if (this.#reservations.size > 0) return;
    this.#isShuttingDown = true;
    this.#onShutdown();
  }

  async #create(request: CreateRequest): Promise<Container> {
    const { id } = request;
    try {
      const container = await createContainer(this.#services, request);
      this.#containers.set(id, container);
      return container;
    } finally {
      this.#creating.delete(id);
      this.#release(id);
    }
  }

  // Whoever reserved has not come, and whoever said Shutdown will not say it again.
  #expire(id: string): void {
    this.#reservations.delete(id);
    if (this.#isUnwanted) this.shutdown();
  }

  #release(id: string): void {
    clearTimeout(this.#reservations.get(id));
    this.#reservations.delete(id);
  }
}

function shuttingDown(): CodedError {
  return unavailable("supervisor is shutting down");
}

async function assertBundle(bundle: string): Promise<void> {
  if (!isAbsolute(bundle)) {
    throw invalidArgument(`bundle ${JSON.stringify(bundle)} is not an absolute path`);
  }
  try {
    if ((await stat(bundle)).isDirectory()) return;
  } catch (error) {
    if (!isErrno(error, "ENOENT", "ENOTDIR")) throw error;
  }
  throw invalidArgument(`bundle ${JSON.stringify(bundle)} is not a directory`);
}
