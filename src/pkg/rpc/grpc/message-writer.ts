import type { Http2Stream } from "node:http2";
import { CodedError } from "#pkg/errors.ts";
import { PREFIX_BYTES } from "./message-reader.ts";

/** Below this a prefix is copied in front of its message; above, both are written as they are. */
const JOINED_BYTES_MAX = 16 << 10;

/**
 * Writes one length-prefixed message; the promise, if any, resolves when the peer has made room for the next.
 *
 * Throws `resource-exhausted` for a message above the limit. Writes nothing to a stream that is gone.
 */
export function writeMessage(
  stream: Http2Stream,
  message: Uint8Array,
  bytesMax: number,
): Promise<void> | undefined {
  if (message.length > bytesMax) {
    throw new CodedError(
      "resource-exhausted",
      `grpc: trying to send message larger than max (${message.length} vs. ${bytesMax})`,
    );
  }
  if (stream.destroyed || stream.closed || stream.writableEnded) return undefined;
  const prefix = Buffer.allocUnsafe(PREFIX_BYTES);
  prefix[0] = 0;
  prefix.writeUInt32BE(message.length, 1);
  let hasRoom: boolean;
  if (message.length <= JOINED_BYTES_MAX) {
    hasRoom = stream.write(Buffer.concat([prefix, message]));
  } else {
    stream.cork();
    stream.write(prefix);
    hasRoom = stream.write(message);
    stream.uncork();
  }
  return hasRoom ? undefined : drained(stream);
}

function drained(stream: Http2Stream): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const settle = (): void => {
    stream.off("drain", settle);
    stream.off("close", settle);
    resolve();
  };
  stream.on("drain", settle);
  stream.on("close", settle);
  return promise;
}
