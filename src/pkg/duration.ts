const unitNanos: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3, // U+00B5
  μs: 1e3, // U+03BC
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

const maxNanos = 2 ** 63;

/** A duration as Go writes it (`1h15m30.5s`, `-100ms`, `0`), in milliseconds; undefined where it is none. */
export function tryParseDuration(value: string): number | undefined {
  const sign = value.startsWith("-") ? -1 : 1;
  const rest = value.replace(/^[+-]/, "");
  if (rest === "0") return 0;
  if (!/^(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.test(rest)) return;
  let nanos = 0;
  for (const [, amount, unit = ""] of rest.matchAll(/([\d.]+)([a-zµμ]+)/g)) {
    nanos += Number(amount) * (unitNanos[unit] ?? Number.NaN);
  }
  return nanos < maxNanos ? (sign * nanos) / 1e6 : undefined;
}

/** As Go prints a duration, to the microsecond: `1h2m0.5s`, `12.5ms`, `0s`. */
export function formatDuration(ms: number): string {
  const sign = ms < 0 ? "-" : "";
  const micros = Math.round(Math.abs(ms) * 1000);
  if (micros === 0) return "0s";
  if (micros < 1000) return `${sign}${micros}µs`;
  if (micros < 1_000_000) return `${sign}${micros / 1000}ms`;
  const hours = Math.floor(micros / 3_600_000_000);
  const minutes = Math.floor(micros / 60_000_000) % 60;
  const seconds = (micros % 60_000_000) / 1_000_000;
  const head = hours > 0 ? `${hours}h${minutes}m` : minutes > 0 ? `${minutes}m` : "";
  return `${sign}${head}${seconds}s`;
}
