import { CodedError } from "#pkg/errors.ts";

const unitMs: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

const VALUE_MAX = 99_999_999;

/** Reads `grpc-timeout`: at most eight digits and a unit. Throws `internal`, as the protocol wants. */
export function parseTimeoutMs(text: string): number {
  const [, digits, unit] = /^(\d{1,8})([HMSmun])$/.exec(text) ?? [];
  const factor = unit === undefined ? undefined : unitMs[unit];
  if (digits === undefined || factor === undefined) {
    throw new CodedError("internal", `malformed grpc-timeout: ${JSON.stringify(text)}`);
  }
  return Number(digits) * factor;
}

/** Writes `grpc-timeout` in the finest unit that fits; what has passed already is the shortest there is. */
export function formatTimeout(timeoutMs: number): string {
  for (const unit of ["u", "m", "S", "M", "H"]) {
    const factor = unitMs[unit] ?? 1;
    const value = Math.ceil(timeoutMs / factor);
    if (value <= VALUE_MAX) return value > 0 ? `${value}${unit}` : "1n";
  }
  return `${VALUE_MAX}H`;
}
