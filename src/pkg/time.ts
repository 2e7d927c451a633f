/** Nanoseconds since the Unix epoch. The wire carries nanoseconds; `Date` would lose them. */
export type UnixNanos = bigint;

// performance.now() counts from timeOrigin without following later clock steps, so the offset is taken anew each time
// the two clocks have drifted apart by more than a step of Date itself.
let offsetMs = performance.timeOrigin;

/** The wall clock, to the microsecond, never behind `Date.now()` by more than a millisecond. */
export function nowNanos(): UnixNanos {
  const monotonicMs = performance.now();
  const wallMs = Date.now();
  if (Math.abs(offsetMs + monotonicMs - wallMs) > 2) offsetMs = wallMs - monotonicMs;
  return BigInt(Math.round((offsetMs + monotonicMs) * 1000)) * 1000n;
}

export function nanosToDate(nanos: UnixNanos): Date {
  return new Date(Number(nanos / 1_000_000n));
}

export function nanosToTimestamp(nanos: UnixNanos): { seconds: bigint; nanos: number } {
  const seconds =
    nanos >= 0n ? nanos / 1_000_000_000n : -((-nanos + 999_999_999n) / 1_000_000_000n);
  return { seconds, nanos: Number(nanos - seconds * 1_000_000_000n) };
}

/** What a time that nobody set is for Go clients: the first day of the year 1. */
const unsetTime = { seconds: -62_135_596_800n, nanos: 0 };

export function timestampOrUnset(time: UnixNanos | undefined): { seconds: bigint; nanos: number } {
  return time === undefined ? unsetTime : nanosToTimestamp(time);
}

export function timestampToNanos(timestamp: { seconds: bigint; nanos: number }): UnixNanos {
  return timestamp.seconds * 1_000_000_000n + BigInt(timestamp.nanos);
}

const rfc3339 =
  /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))$/;

/** An RFC 3339 time; undefined where the text is none, or names a day or hour that does not exist. */
export function tryParseRfc3339(value: string): UnixNanos | undefined {
  const match = rfc3339.exec(value);
  if (!match) return;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number);
  const [fraction = "", sign, offsetHour = "0", offsetMinute = "0"] = match.slice(7);
  const date = new Date(0);
  date.setUTCFullYear(year ?? 0, (month ?? 0) - 1, day);
  date.setUTCHours(hour ?? 0, minute, second);
  const exists =
    date.getUTCMonth() + 1 === month &&
    date.getUTCDate() === day &&
    date.getUTCHours() === hour &&
    date.getUTCMinutes() === minute &&
    date.getUTCSeconds() === second &&
    Number(offsetHour) < 24 &&
    Number(offsetMinute) < 60;
  if (!exists) return;
  const offsetMs = (Number(offsetHour) * 60 + Number(offsetMinute)) * 60_000;
  const ms = date.getTime() - (sign === "-" ? -offsetMs : offsetMs);
  return BigInt(ms) * 1_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, "0"));
}

/** RFC 3339 in UTC with as many decimals as needed, as Go prints times. */
export function formatRfc3339(nanos: UnixNanos): string {
  const { seconds, nanos: rest } = nanosToTimestamp(nanos);
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  const fraction = String(rest).padStart(9, "0").replace(/0+$/, "");
  return fraction === "" ? `${whole}Z` : `${whole}.${fraction}Z`;
}
