import type { DescMessage, DescMethod, MessageShape } from "@bufbuild/protobuf";
import { CodedError, messageOf } from "#pkg/errors.ts";
import type { MessageQueue } from "#pkg/rpc/message-queue.ts";
import { decodeMessage } from "#pkg/rpc/routes.ts";
import { errorFromStatus } from "#pkg/rpc/status.ts";
import { decodeResponse, type Response } from "./envelope.ts";
import {
  FLAG_NO_DATA,
  FLAG_REMOTE_CLOSED,
  type Frame,
  MESSAGE_DATA,
  MESSAGE_RESPONSE,
  oversized,
} from "./frame.ts";

/** The messages of a stream's frames; `finish` runs however the reader leaves. */
export async function* responses<M extends DescMethod>(
  method: M,
  frames: MessageQueue<Frame>,
  finish: () => void,
): AsyncGenerator<MessageShape<M["output"]>> {
  const sendsMany =
    method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming";
  try {
    for await (const frame of frames) {
      if (frame.type === MESSAGE_DATA && frame.oversizedBytes === undefined) {
        if (!sendsMany) throw new CodedError("internal", "received data from non-streaming server");
        if ((frame.flags & FLAG_NO_DATA) === 0) {
          yield parseMessage<M["output"]>(method.output, {
            payload: frame.payload,
            status: undefined,
          });
        }
      } else {
        yield parseMessage<M["output"]>(method.output, parseResponse(frame));
      }
    }
  } finally {
    finish();
  }
}

/** Whether nothing more comes on the stream. */
export function isLast(frame: Frame): boolean {
  return (
    frame.type !== MESSAGE_DATA ||
    frame.oversizedBytes !== undefined ||
    (frame.flags & FLAG_REMOTE_CLOSED) !== 0
  );
}

/** Throws the error that the response carries. */
export function parseResponse(frame: Frame): Response {
  if (frame.oversizedBytes !== undefined) throw oversized(frame.oversizedBytes);
  if (frame.type !== MESSAGE_RESPONSE) {
    throw new CodedError("internal", `unexpected message type ${frame.type}: protocol error`);
  }
  const response = parseOr("ttrpc: error unmarshalling response", () =>
    decodeResponse(frame.payload),
  );
  if (response.status && response.status.code !== 0) throw errorFromStatus(response.status);
  return response;
}

/** Throws `internal` when the payload is no such message. */
export function parseMessage<D extends DescMessage>(
  desc: D,
  { payload }: Response,
): MessageShape<D> {
  return parseOr("ttrpc: error unmarshalling payload", () => decodeMessage(desc, payload));
}

function parseOr<T>(context: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new CodedError("internal", `${context}: ${messageOf(cause)}`, { cause });
  }
}
