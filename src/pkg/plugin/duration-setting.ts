import * as v from "valibot";
import { tryParseDuration } from "#pkg/duration.ts";

/** A duration in a configuration, as Go writes it (`1m30s`), in milliseconds. */
export const durationMs: v.GenericSchema<string, number> = v.pipe(
  v.string(),
  v.check((text) => tryParseDuration(text) !== undefined, "duration"),
  v.transform((text) => tryParseDuration(text) ?? 0),
);
