import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { CodedError, fromStatus, toStatus } from "#pkg/errors.ts";

/** A google.protobuf.Any, as it came. */
export interface StatusDetail {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/** google.rpc.Status: what an error is on both wires. */
export interface Status {
  readonly code: number;
  readonly message: string;
  readonly details: readonly StatusDetail[];
}

/** A coded error that has more to tell than its class: what a peer sent along, kept when it is passed on. */
export class StatusError extends CodedError {
  readonly details: readonly StatusDetail[];

  constructor(status: Status) {
    const plain = fromStatus(status.code, status.message);
    super(plain.code, plain.message);
    this.details = status.details;
  }
}

export function statusOf(error: unknown): Status {
  return { ...toStatus(error), details: detailsOf(error) };
}

export function errorFromStatus(status: Status): CodedError {
  return status.details.length > 0
    ? new StatusError(status)
    : fromStatus(status.code, status.message);
}

export function encodeStatus(status: Status): Uint8Array {
  const writer = new BinaryWriter();
  if (status.code !== 0) writer.tag(1, 0).int32(status.code);
  if (status.message !== "") writer.tag(2, 2).string(status.message);
  for (const detail of status.details) {
    writer.tag(3, 2).fork();
    if (detail.typeUrl !== "") writer.tag(1, 2).string(detail.typeUrl);
    if (detail.value.length > 0) writer.tag(2, 2).bytes(detail.value);
    writer.join();
  }
  return writer.finish();
}

/** Throws when the bytes are no protobuf message. */
export function decodeStatus(bytes: Uint8Array): Status {
  const reader = new BinaryReader(bytes);
  const details: StatusDetail[] = [];
  let code = 0;
  let message = "";
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1 && wireType === 0) code = reader.int32();
    else if (field === 2 && wireType === 2) message = reader.string();
    else if (field === 3 && wireType === 2) details.push(decodeDetail(reader.bytes()));
    else reader.skip(wireType, field);
  }
  return { code, message, details };
}

function decodeDetail(bytes: Uint8Array): StatusDetail {
  const reader = new BinaryReader(bytes);
  let typeUrl = "";
  let value: Uint8Array = new Uint8Array();
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1 && wireType === 2) typeUrl = reader.string();
    else if (field === 2 && wireType === 2) value = reader.bytes();
    else reader.skip(wireType, field);
  }
  return { typeUrl, value };
}

function detailsOf(error: unknown): readonly StatusDetail[] {
  let e = error;
  while (e instanceof Error) {
    if (e instanceof StatusError) return e.details;
    e = e.cause;
  }
  return [];
}
