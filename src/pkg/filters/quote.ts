import { numeric } from "#pkg/filters/scanner.ts";

const controls: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  f: 12,
  n: 10,
  r: 13,
  t: 9,
  v: 11,
  "\\": 92,
};

/**
 * The value of a Go string literal, whose quotes may also be `|` or `/`.
 *
 * Undefined where it is none. `\x` and octal escapes are bytes, so that one may write UTF-8 by
 * hand.
 */
export function unquote(literal: string): string | undefined {
  const chars = Array.from(literal);
  const quote = chars[0];
  if (chars.length < 2 || quote === undefined || chars.at(-1) !== quote) return undefined;
  const bytes: Buffer[] = [];
  for (let i = 1; i < chars.length - 1; ) {
    const c = chars[i] ?? "";
    if (c === quote || c === "\n") return undefined;
    if (c !== "\\") {
      bytes.push(Buffer.from(c));
      i += 1;
      continue;
    }
    const escaped = unescape(chars.slice(i + 1, -1), quote);
    if (!escaped) return undefined;
    bytes.push(escaped.bytes);
    i += 1 + escaped.length;
  }
  return Buffer.concat(bytes).toString();
}

/** Of the characters behind a backslash: how many make up the escape, and what they stand for. */
function unescape(
  chars: readonly string[],
  quote: string,
): { bytes: Buffer; length: number } | undefined {
  const c = chars[0];
  if (c === undefined) return undefined;
  if (c === quote) return { bytes: Buffer.from(c), length: 1 };
  const control = Object.hasOwn(controls, c) ? controls[c] : undefined;
  if (control !== undefined) return { bytes: Buffer.of(control), length: 1 };
  const digits = numeric(c);
  if (!digits) return undefined;
  const octal = digits.count === 2 && c !== "x";
  const text = chars.slice(octal ? 0 : 1, 1 + digits.count);
  if (!text.every((digit) => digits.of.test(digit))) return undefined;
  if (text.length !== digits.count + (octal ? 1 : 0)) return undefined;
  const code = Number.parseInt(text.join(""), octal ? 8 : 16);
  const length = 1 + digits.count;
  if (octal || c === "x") return code > 255 ? undefined : { bytes: Buffer.of(code), length };
  if (code > 0x10ffff) return undefined;
  return { bytes: Buffer.from(String.fromCodePoint(code)), length };
}
