import { invalidArgument } from "#pkg/errors.ts";

/**
 * How the descriptors of running processes come from a supervisor to the daemon, which keeps
 * duplicates, and from the daemon to that supervisor's successor.
 *
 * Beside its socket a supervisor listens on another, named in its bootstrap's metadata under
 * `handoverKey`; the number in that name is the version of all this. The daemon connects and sends
 * one message, `hello`, with one end of a SEQPACKET pair. On the pair the supervisor sends what
 * there is, then `complete`, then each change: `hold` with the descriptors it names, in their
 * order, and `release`. After each it writes a byte to the connection: a pair cannot be polled, a
 * connection can.
 *
 * A successor inherits the descriptors, numbered from `firstInherited` up, and reads which is which
 * on its standard input (`formatManifest`).
 *
 * A container's id may be used again while changes are still on their way: each message names the
 * pid as well, and what is of another process than the successor's record says is not for it.
 *
 * What is held is never read or written by the daemon. What would hide somebody's end of file while
 * it is held is released in the moment in which the supervisor closes its own.
 */
export const handoverKey = "io.containerd-ts.supervisor.handover.1";

export const hello: Buffer = Buffer.from("hello");
export const doorbell: Buffer = Buffer.from(".");

/** The first descriptor after standard input, output and error. */
export const firstInherited = 3;

/** Of one message; ids have 76 characters at most. */
export const messageBytesMax = 1024;

/**
 * What a descriptor is to the process: the other end of its stdin, stdout or stderr, the master of
 * its terminal, the supervisor's end of what the client named, what keeps the client's input from
 * ending before `CloseIO`, or the process itself.
 */
export const endRoles = [
  "stdin",
  "stdout",
  "stderr",
  "terminal",
  "client-stdin",
  "client-stdin-keeper",
  "client-stdout",
  "client-stderr",
  "pidfd",
] as const;
export type EndRole = (typeof endRoles)[number];

/** A process of a container; `execId` empty is the first. */
export interface ProcessName {
  readonly containerId: string;
  readonly execId: string;
}

/** A name as the key of a map. */
export function keyOf({ containerId, execId }: ProcessName): string {
  return `${containerId}/${execId}`;
}

export interface ProcessEnds extends ProcessName {
  /** Tells two apart that had one name after the other; 0 from a supervisor that did not say it. */
  readonly pid: number;
  readonly roles: readonly EndRole[];
}

export type HandoverMessage =
  | ({ readonly kind: "hold" } & ProcessEnds)
  | ({ readonly kind: "release" } & ProcessEnds)
  | { readonly kind: "complete" };

export function formatMessage(message: HandoverMessage): Buffer {
  return Buffer.from(JSON.stringify(message));
}

/** Throws `invalid-argument` for what is none. */
export function parseMessage(data: Buffer): HandoverMessage {
  const value = parseObject(data.toString("utf8"));
  const { kind } = value;
  if (kind === "complete") return { kind };
  if (kind === "hold" || kind === "release") return { kind, ...parseEnds(value) };
  throw invalidArgument(`hand-over: message of kind ${JSON.stringify(kind)}`);
}

/** The descriptors that a successor inherits, in their order. */
export function formatManifest(processes: readonly ProcessEnds[]): Buffer {
  return processes.length === 0 ? Buffer.alloc(0) : Buffer.from(JSON.stringify({ processes }));
}

/** Throws `invalid-argument` for what is none. Nothing is a manifest of nothing. */
export function parseManifest(text: string): readonly ProcessEnds[] {
  if (text === "") return [];
  const { processes } = parseObject(text);
  if (!Array.isArray(processes)) throw invalidArgument("hand-over: manifest without processes");
  return processes.map((entry: unknown) => parseEnds(entry));
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalidArgument(`hand-over: ${JSON.stringify(text.slice(0, 80))} is no JSON`, {
      cause: error,
    });
  }
  if (isObject(value)) return value;
  throw invalidArgument(`hand-over: ${text.slice(0, 80)} is no object`);
}

function parseEnds(value: unknown): ProcessEnds {
  if (!isObject(value)) throw invalidArgument("hand-over: process is no object");
  const { containerId, execId, roles, pid = 0 } = value;
  if (typeof containerId !== "string" || typeof execId !== "string" || !Array.isArray(roles)) {
    throw invalidArgument(`hand-over: process ${JSON.stringify(value).slice(0, 80)}`);
  }
  if (!isPid(pid)) throw invalidArgument(`hand-over: pid ${JSON.stringify(pid)}`);
  // Each once: a second of a role would be nobody's to close.
  if (new Set(roles).size < roles.length) throw invalidArgument("hand-over: a role twice");
  return { containerId, execId, pid, roles: roles.map(parseRole) };
}

function isPid(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function parseRole(value: unknown): EndRole {
  const role = endRoles.find((known) => known === value);
  if (role === undefined) throw invalidArgument(`hand-over: role ${JSON.stringify(value)}`);
  return role;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
