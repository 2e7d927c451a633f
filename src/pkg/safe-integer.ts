import { invalidArgument } from "#pkg/errors.ts";

/** A 64-bit integer of the wire as a number. Throws `invalid-argument` naming `what` beyond what a number holds. */
export function toSafeInteger(value: bigint, what: string): number {
  const number = Number(value);
  if (Number.isSafeInteger(number)) return number;
  throw invalidArgument(`${what} ${value} is out of range`);
}

/** The same for sizes and offsets, which are never negative. */
export function toSize(value: bigint, what: string): number {
  if (value < 0n) throw invalidArgument(`${what} ${value} is negative`);
  return toSafeInteger(value, what);
}
