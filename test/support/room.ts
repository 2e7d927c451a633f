import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { type TestContext, test } from "node:test";
import { type Baseline, endLeftovers, findLeaks, takeBaseline } from "#test/support/leaks.ts";
import { type Need, whyNot } from "#test/support/needs.ts";
import { adoptOrphans } from "#test/support/reaper.ts";

/**
 * A private place on the machine for one test: everything it makes is below `dir`, named after `namespace`, or a
 * descendant of this process.
 *
 * What the test puts into `resources` is released in reverse order at its end. Then nothing may be left: a mount, a
 * process, a socket, a network namespace, a cgroup. What is left is named, ended, and fails the test.
 */
export interface Room {
  readonly dir: string;
  /** A containerd namespace nobody else uses, so that its cgroups and sockets can be told apart. */
  readonly namespace: string;
  readonly resources: AsyncDisposableStack;
  /** Files whose end is shown when the test fails: what its processes had to say. */
  readonly logs: Set<string>;
  /** Aborts when the test has ended or run out of time. */
  readonly signal: AbortSignal;
}

export interface RoomTestOptions {
  /** What the machine must have; the test is skipped with the reason where it does not. Root is always needed. */
  readonly needs?: readonly Need[];
  readonly timeoutMs?: number;
}

const logCharsMax = 16_384;

/** A test that has processes, mounts or containers of its own. Files that use it are named `*.root.test.ts`. */
export function roomTest(
  name: string,
  body: (room: Room, t: TestContext) => Promise<void>,
  options: RoomTestOptions = {},
): void {
  const reason = whyNot(["root", ...(options.needs ?? [])]);
  void test(name, {
    timeout: options.timeoutMs ?? 120_000,
    ...(reason !== undefined && { skip: reason }),
  }, async (t) => {
    const { room, close } = await openRoom(t.signal);
    let failure: Error | undefined;
    try {
      await body(room, t);
    } catch (error) {
      failure = asError(error);
      for (const path of room.logs) t.diagnostic(`--- ${path}\n${await endOf(path)}`);
    }
    try {
      await close();
    } catch (error) {
      if (failure === undefined) throw error;
      t.diagnostic(`after the failure: ${String(error)}`);
    }
    if (failure) throw failure;
  });
}

async function endOf(path: string): Promise<string> {
  try {
    return (await readFile(path, "utf8")).slice(-logCharsMax);
  } catch (error) {
    return String(error);
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
}

/**
 * For what is no single test: several tests that share a daemon, or a command such as `hello`. Closing throws naming
 * what is left after `settleMs`, having ended it.
 */
export async function openRoom(
  signal: AbortSignal = new AbortController().signal,
  { settleMs = 5_000 }: { settleMs?: number } = {},
): Promise<{ room: Room; close: () => Promise<void> }> {
  adoptOrphans();
  // Short: the path of a socket has room for 107 bytes.
  const dir = await mkdtemp("/tmp/ctrd-");
  const namespace = `t${randomBytes(4).toString("hex")}`;
  const resources = new AsyncDisposableStack();
  const baseline = await takeBaseline({ dir, namespace });
  return {
    room: { dir, namespace, resources, logs: new Set(), signal },
    close: () => closeRoom(resources, baseline, settleMs),
  };
}

async function closeRoom(
  resources: AsyncDisposableStack,
  baseline: Baseline,
  settleMs: number,
): Promise<void> {
  let failure: Error | undefined;
  try {
    await resources.disposeAsync();
  } catch (error) {
    failure = asError(error);
  }
  const leaks = await findLeaks(baseline, settleMs);
  await endLeftovers(baseline);
  await rm(baseline.dir, { recursive: true, force: true });
  if (leaks.length > 0) {
    throw new Error(`left behind:\n  ${leaks.join("\n  ")}`, { cause: failure });
  }
  if (failure) throw failure;
}
