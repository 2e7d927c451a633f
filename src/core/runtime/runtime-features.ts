import type { Any } from "#pkg/any.ts";
import { CodedError, messageOf, wrap } from "#pkg/errors.ts";

const featuresName = "features/Features";
const specName = "opencontainers/runtime-spec/1/Spec";

/** Whether a specification asks for mounts whose owners are mapped. */
export function asksForIdMapping(spec: Any | undefined): boolean {
  if (!spec?.typeUrl.endsWith(specName)) return false;
  const parsed: unknown = JSON.parse(Buffer.from(spec.value).toString("utf8"));
  return listOf(fieldOf(parsed, "mounts")).some((mount) => {
    const mappings = [fieldOf(mount, "uidMappings"), fieldOf(mount, "gidMappings")];
    if (mappings.some((each) => each !== undefined && each !== null)) return true;
    const options = listOf(fieldOf(mount, "options"));
    return options.includes("idmap") || options.includes("ridmap");
  });
}

/**
 * Throws where a runtime does not say that it maps the owners of mounts: it might leave out the
 * mapping in silence, and the container would have files of others. One that says nothing of
 * features in OCI's words is left alone.
 */
export function assertIdMapping(features: Any | undefined): void {
  if (!features) throw refusal("unmarshal runtime features: there are none");
  if (!features.typeUrl.endsWith(featuresName)) return;
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(features.value).toString("utf8"));
  } catch (error) {
    throw refusal(`unmarshal runtime features: ${messageOf(error)}`);
  }
  const extension = fieldOf(fieldOf(fieldOf(parsed, "linux"), "mountExtensions"), "idmap");
  const unsupported = "idmap mounts not supported";
  if (extension === undefined || extension === null) {
    const missing = "missing `mountExtensions.idmap` entry in `features` command";
    throw refusal(`${unsupported}: ${missing}`);
  }
  if (fieldOf(extension, "enabled") === true) return;
  const entry = "entry `mountExtensions.idmap.Enabled` in `features` command";
  throw refusal(`${unsupported}: ${entry} not present or disabled`);
}

function refusal(words: string): CodedError {
  return wrap("failed to validate OCI runtime features", new CodedError("unknown", words));
}

function fieldOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
  // -- it has the field
  return (value as Readonly<Record<string, unknown>>)[name];
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
