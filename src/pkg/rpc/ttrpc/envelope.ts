import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { decodeStatus, encodeStatus, type Status } from "#pkg/rpc/status.ts";

/** What a request frame carries. */
export interface Request {
  readonly service: string;
  readonly method: string;
  readonly payload: Uint8Array;
  /** How long the caller waits; 0 when it waits for ever. Negative when it has already stopped. */
  readonly timeoutNano: bigint;
  readonly metadata: readonly (readonly [key: string, value: string])[];
}

/** What a response frame carries. */
export interface Response {
  readonly status: Status | undefined;
  readonly payload: Uint8Array;
}

export function encodeRequest(request: Request): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, 2).string(request.service).tag(2, 2).string(request.method);
  if (request.payload.length > 0) writer.tag(3, 2).bytes(request.payload);
  if (request.timeoutNano !== 0n) writer.tag(4, 0).int64(request.timeoutNano);
  for (const [key, value] of request.metadata) {
    writer.tag(5, 2).fork();
    writer.tag(1, 2).string(key).tag(2, 2).string(value);
    writer.join();
  }
  return writer.finish();
}

/** Throws when the bytes are no protobuf message. */
export function decodeRequest(bytes: Uint8Array): Request {
  const reader = new BinaryReader(bytes);
  const metadata: (readonly [string, string])[] = [];
  let service = "";
  let method = "";
  let payload: Uint8Array = new Uint8Array();
  let timeoutNano = 0n;
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1 && wireType === 2) service = reader.string();
    else if (field === 2 && wireType === 2) method = reader.string();
    else if (field === 3 && wireType === 2) payload = reader.bytes();
    else if (field === 4 && wireType === 0) timeoutNano = BigInt(reader.int64());
    else if (field === 5 && wireType === 2) metadata.push(decodePair(reader.bytes()));
    else reader.skip(wireType, field);
  }
  return { service, method, payload, timeoutNano, metadata };
}

export function encodeResponse(response: Response): Uint8Array {
  const writer = new BinaryWriter();
  if (response.status) writer.tag(1, 2).bytes(encodeStatus(response.status));
  if (response.payload.length > 0) writer.tag(2, 2).bytes(response.payload);
  return writer.finish();
}

/** Throws when the bytes are no protobuf message. */
export function decodeResponse(bytes: Uint8Array): Response {
  const reader = new BinaryReader(bytes);
  let status: Status | undefined;
  let payload: Uint8Array = new Uint8Array();
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1 && wireType === 2) status = decodeStatus(reader.bytes());
    else if (field === 2 && wireType === 2) payload = reader.bytes();
    else reader.skip(wireType, field);
  }
  return { status, payload };
}

function decodePair(bytes: Uint8Array): readonly [string, string] {
  const reader = new BinaryReader(bytes);
  let key = "";
  let value = "";
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1 && wireType === 2) key = reader.string();
    else if (field === 2 && wireType === 2) value = reader.string();
    else reader.skip(wireType, field);
  }
  return [key, value];
}
