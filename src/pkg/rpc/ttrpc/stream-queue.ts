import { CodedError } from "#pkg/errors.ts";
import type { MessageQueue } from "#pkg/rpc/message-queue.ts";
import { STREAM_FULL_WAIT_MS } from "./frame.ts";

/**
 * Puts a message into a stream's queue; gives back the error when it could not.
 *
 * A full queue is waited for, for a second, while the connection takes in nothing else. The protocol has no flow
 * control of its own: after that the one stream has to end so that the others go on.
 */
export function deliver<T>(
  queue: MessageQueue<T>,
  message: T,
): Promise<CodedError | undefined> | CodedError | undefined {
  if (!queue.isOpen) return new CodedError("failed-precondition", "ttrpc: stream closed");
  return queue.offer(message) ? undefined : deliverLate(queue, message);
}

async function deliverLate<T>(queue: MessageQueue<T>, message: T): Promise<CodedError | undefined> {
  const { promise: room, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, STREAM_FULL_WAIT_MS);
  queue.onRoom = resolve;
  await room;
  clearTimeout(timer);
  queue.onRoom = undefined;
  if (queue.offer(message)) return undefined;
  return queue.isOpen
    ? new CodedError("resource-exhausted", "ttrpc: stream buffer full")
    : new CodedError("failed-precondition", "ttrpc: stream closed");
}
