import { createReadStream } from "node:fs";
import type { KeyObject } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import * as v from "valibot";
import { payloadType } from "#core/diff/encrypted-layer.ts";
import { invalidArgument, isErrno, messageOf } from "#pkg/errors.ts";
import { parsePrivateKey } from "#pkg/ocicrypt/decryption-keys.ts";

/** What the differ hands over beside the layer. */
export interface DecoderPayload {
  readonly annotations: Readonly<Record<string, string>>;
  /** Private keys that the client sent along. */
  readonly keys: readonly KeyObject[];
}

const payloadBytesMax = 8 << 20;

const lists = v.optional(v.nullable(v.record(v.string(), v.nullable(v.array(v.string())))));
const schema = v.object({
  DecryptConfig: v.optional(v.nullable(v.object({ Parameters: lists }))),
  Descriptor: v.object({ annotations: v.optional(v.nullable(v.record(v.string(), v.string()))) }),
});

/** Reads it from a descriptor, to its end. Throws `invalid-argument` for anything else than a payload. */
export async function readPayload(fd: number): Promise<DecoderPayload> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of createReadStream("", { fd }) as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes > payloadBytesMax) throw invalidArgument("the payload is too large");
      chunks.push(chunk);
    }
  } catch (error) {
    if (isErrno(error, "EBADF")) throw invalidArgument(`no payload on descriptor ${fd}`);
    throw error;
  }
  return parsePayload(Buffer.concat(chunks));
}

export function parsePayload(bytes: Uint8Array): DecoderPayload {
  const text = jsonOf(bytes);
  let payload: v.InferOutput<typeof schema>;
  try {
    payload = v.parse(schema, JSON.parse(text));
  } catch (error) {
    // The parser of JSON quotes what it was given, and there are keys in it.
    throw invalidArgument(
      `payload: ${error instanceof v.ValiError ? messageOf(error) : "no JSON"}`,
    );
  }
  const parameters = payload.DecryptConfig?.Parameters ?? {};
  const passwords = parameters["privkeys-passwords"] ?? [];
  const keys = (parameters["privkeys"] ?? []).map((key, i) => {
    const password = Buffer.from(passwords[i] ?? "", "base64").toString("utf8");
    return parsePrivateKey(Buffer.from(key, "base64"), password === "" ? undefined : password);
  });
  return {
    annotations: payload.Descriptor.annotations ?? {},
    keys: keys.filter((key) => key !== undefined),
  };
}

function jsonOf(bytes: Uint8Array): string {
  let typeUrl: string;
  let value: Uint8Array;
  try {
    ({ typeUrl, value } = fromBinary(AnySchema, bytes));
  } catch (error) {
    throw invalidArgument(`payload: ${messageOf(error)}`);
  }
  if (typeUrl !== payloadType) {
    throw invalidArgument(`unknown payload type ${JSON.stringify(typeUrl.slice(0, 128))}`);
  }
  return Buffer.from(value).toString("utf8");
}
