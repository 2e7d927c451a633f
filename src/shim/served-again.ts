import { type FSWatcher, lstatSync, watch } from "node:fs";
import { basename, dirname } from "node:path";
import { isErrno } from "#pkg/errors.ts";

/** A socket's file may be there before somebody listens. */
const settleMs = 10;

/**
 * Waits that end early when a socket is made anew at the path, or the signal aborts: an event that
 * waits for a daemon's restart goes on as soon as that listens.
 */
export function untilServedAgain(path: string): (ms: number, signal: AbortSignal) => Promise<void> {
  let seen: string | undefined;
  return async (ms, signal) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    using stack = new DisposableStack();
    const timer = setTimeout(resolve, ms);
    stack.defer(() => clearTimeout(timer));
    const onAbort = (): void => resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    stack.defer(() => signal.removeEventListener("abort", onAbort));
    const look = (): void => {
      const now = identityOf(path);
      if (now === seen) return;
      seen = now;
      if (now !== undefined) setTimeout(resolve, settleMs);
    };
    const watcher = tryWatch(dirname(path), (name) => {
      if (name === null || name === basename(path)) look();
    });
    stack.defer(() => watcher?.close());
    // What happened since the last wait nobody has watched.
    look();
    await promise;
  };
}

function identityOf(path: string): string | undefined {
  const file = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  // A number alone may be given again.
  return file && `${file.ino} ${file.ctimeNs}`;
}

/** Undefined where there is no such directory, or the kernel has no watch to spare. */
function tryWatch(
  directory: string,
  onChange: (name: string | null) => void,
): FSWatcher | undefined {
  try {
    const watcher = watch(directory, { persistent: false }, (_event, name) => onChange(name));
    // The waits are bounded without it.
    watcher.on("error", () => watcher.close());
    return watcher;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOSPC", "EMFILE", "ENOTDIR")) return undefined;
    throw error;
  }
}
