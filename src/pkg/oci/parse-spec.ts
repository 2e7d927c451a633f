import * as v from "valibot";
import { invalidArgument } from "#pkg/errors.ts";
import { parseLossless } from "#pkg/lossless-json.ts";
import type { LinuxResources, SeccompProfile } from "#pkg/oci/linux-spec.ts";
import type { OciSpec, Process } from "#pkg/oci/runtime-spec.ts";
import {
  linuxResourcesSchema,
  processSchema,
  seccompSchema,
  specSchema,
} from "#pkg/oci/spec-schema.ts";

/** Longer than any message a client may send. */
const textMax = 16 * 1024 * 1024;

/**
 * A specification from its JSON, which may be anybody's.
 *
 * Every field named in `OciSpec` has the type it says, or is absent (Go writes null for that);
 * fields that are not named there stay as they are. Whether values make sense is for the runtime to
 * say. Throws `invalid-argument` naming the field.
 */
export function parseSpec(text: string | Uint8Array): OciSpec {
  return parse<OciSpec>(specSchema, text, "spec");
}

/** The same for the process of an exec. */
export function parseProcess(text: string | Uint8Array): Process {
  return parse<Process>(processSchema, text, "process");
}

/** The same for what `Update` of a task takes. */
export function parseResources(text: string | Uint8Array): LinuxResources {
  return parse<LinuxResources>(linuxResourcesSchema, text, "resources");
}

/** A seccomp profile as a runtime takes it. Docker's own form, which names conditions, is refused. */
export function parseSeccompProfile(text: string | Uint8Array): SeccompProfile {
  return parse<SeccompProfile>(seccompSchema, text, "seccomp profile");
}

function parse<T extends object>(
  schema: v.GenericSchema<unknown, T>,
  given: string | Uint8Array,
  what: string,
): T {
  if (given.length > textMax) throw invalidArgument(`${what} is longer than ${textMax} bytes`);
  const text = typeof given === "string" ? given : new TextDecoder().decode(given);
  const value = withoutNulls(parseLossless(text, what));
  const result = v.safeParse(schema, value, { abortEarly: true });
  // The value and not the result's: a schema leaves out keys such as `constructor`, which are as
  // good as any other in a map of annotations.
  if (result.success) return value as T; // -- the schema has found it to be one
  const [issue] = result.issues;
  const path = issue.path?.map((item) => String(item.key)).join(".") ?? "";
  throw invalidArgument(`${what}: ${path === "" ? "" : `${path}: `}${issue.message}`);
}

// JSON.parse with a reviver has already failed on what is nested too deeply for recursion.
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) === null) {
    return value;
  }
  const kept = Object.entries(value).filter(([, part]) => part !== null);
  return Object.fromEntries(kept.map(([key, part]) => [key, withoutNulls(part)]));
}
