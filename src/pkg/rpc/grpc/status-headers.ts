import { CodedError, fromStatus } from "#pkg/errors.ts";
import { decodeStatus, encodeStatus, errorFromStatus, type Status } from "#pkg/rpc/status.ts";

/** Headers of one name, as node:http2 gives them. */
type HeaderValue = string | string[] | undefined;

/** Longer messages are cut: they travel in a header block, whose length the peer limits. */
const MESSAGE_CHARS_MAX = 8 << 10;
const DETAILS_BYTES_MAX = 32 << 10;

/** The trailers that end a call with this status. */
export function statusHeaders(status: Status): Record<string, string> {
  const headers: Record<string, string> = { "grpc-status": String(status.code) };
  const message = status.message.slice(0, MESSAGE_CHARS_MAX);
  if (message !== "") headers["grpc-message"] = encodeMessageText(message);
  if (status.details.length > 0) {
    const details = encodeStatus(status);
    if (details.length <= DETAILS_BYTES_MAX) {
      headers["grpc-status-details-bin"] = Buffer.from(details)
        .toString("base64")
        .replace(/=+$/, "");
    }
  }
  return headers;
}

/** The error that trailers tell of, or undefined when they tell of success. Throws when there is no status in them. */
export function errorFromHeaders(
  headers: Readonly<Record<string, HeaderValue>>,
): CodedError | undefined {
  const text = single(headers["grpc-status"]);
  if (text === undefined || !/^\d{1,3}$/.test(text)) {
    throw new CodedError("internal", `malformed grpc-status: ${JSON.stringify(text)}`);
  }
  const code = Number(text);
  if (code === 0) return undefined;
  const message = decodeMessageText(single(headers["grpc-message"]) ?? "");
  const encoded = single(headers["grpc-status-details-bin"]);
  if (encoded === undefined) return fromStatus(code, message);
  try {
    const { details } = decodeStatus(Buffer.from(encoded, "base64"));
    return errorFromStatus({ code, message, details });
  } catch {
    // Details that do not parse take nothing from the status itself.
    return fromStatus(code, message);
  }
}

/** Percent-encodes what is not printable ASCII, and the percent sign. */
export function encodeMessageText(message: string): string {
  if (/^[ -$&-~]*$/.test(message)) return message;
  let text = "";
  for (const byte of Buffer.from(message)) {
    const plain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    text += plain
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return text;
}

/** The reverse; a percent sign that starts no escape stays as it is. */
export function decodeMessageText(text: string): string {
  if (!text.includes("%")) return text;
  const bytes: number[] = [];
  for (let i = 0; i < text.length; i++) {
    const hex = text.slice(i + 1, i + 3);
    if (text[i] === "%" && /^[0-9a-fA-F]{2}$/.test(hex)) {
      bytes.push(Number.parseInt(hex, 16));
      i += 2;
    } else {
      bytes.push(text.charCodeAt(i) & 0xff);
    }
  }
  return Buffer.from(bytes).toString("utf8");
}

function single(value: HeaderValue): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
