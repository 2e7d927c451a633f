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

export function timestampToNanos(timestamp: { seconds: bigint; nanos: number }): UnixNanos {
  return timestamp.seconds * 1_000_000_000n + BigInt(timestamp.nanos);
}
