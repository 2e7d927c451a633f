import { setTimeout as wait } from "node:timers/promises";
import type { Context } from "#pkg/context.ts";

/** Waits. Throws `canceled` or `deadline-exceeded` as soon as `ctx` ends. */
export async function pause(ctx: Context, ms: number): Promise<void> {
  ctx.throwIfEnded();
  try {
    await wait(ms, undefined, { signal: ctx.signal });
  } catch (error) {
    ctx.throwIfEnded();
    throw error;
  }
}

const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const httpDate =
  /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT$/;

/**
 * The milliseconds that a `Retry-After` header asks for, from seconds or a date (RFC 9110, 10.2.3).
 *
 * Undefined where it is neither; 0 for a date that has passed.
 */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const [, day, month = "", year, hour, minute, second] = httpDate.exec(text) ?? [];
  const monthIndex = months.indexOf(month);
  if (monthIndex < 0) return undefined;
  const at = Date.UTC(
    Number(year),
    monthIndex,
    Number(day),
    Number(hour),
    Number(minute),
    Number(second),
  );
  return Math.max(0, at - nowMs);
}
