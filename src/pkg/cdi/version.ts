import type { CdiSpec, ContainerEdits } from "#pkg/cdi/cdi-spec.ts";
import { invalidArgument } from "#pkg/errors.ts";

const versions = [
  "0.1.0",
  "0.2.0",
  "0.3.0",
  "0.4.0",
  "0.5.0",
  "0.6.0",
  "0.7.0",
  "0.8.0",
  "1.0.0",
  "1.1.0",
] as const;
type Version = (typeof versions)[number];

/** Throws `invalid-argument` for a version nobody has published, and for one that lacks what is used. */
export function assertCdiVersion(spec: CdiSpec): void {
  const said = versions.findIndex((version) => version === spec.cdiVersion.replace(/^v/, ""));
  if (said < 0) throw invalidArgument(`invalid version ${JSON.stringify(spec.cdiVersion)}`);
  const needed = neededVersion(spec);
  if (said < versions.indexOf(needed)) {
    throw invalidArgument(`the spec version must be at least v${needed}`);
  }
}

/** The oldest version that has all that the file uses. */
export function neededVersion(spec: CdiSpec): Version {
  const all = [spec.containerEdits ?? {}, ...spec.devices.map((each) => each.containerEdits)];
  const uses = (does: (edits: ContainerEdits) => boolean): boolean => all.some(does);
  const hasRdt110 = uses(
    ({ intelRdt: rdt }) => rdt?.schemata !== undefined || rdt?.enableMonitoring === true,
  );
  if (hasRdt110 || uses(({ netDevices = [] }) => netDevices.length > 0)) return "1.1.0";
  if (uses(({ intelRdt, additionalGids = [] }) => !!intelRdt || additionalGids.length > 0)) {
    return "0.7.0";
  }
  const annotated = [spec, ...spec.devices].some(
    ({ annotations }) => Object.keys(annotations ?? {}).length > 0,
  );
  if (annotated || spec.kind.slice(spec.kind.indexOf("/")).includes(".")) return "0.6.0";
  const digit = spec.devices.some(({ name }) => /^\d/.test(name));
  if (digit || uses(({ deviceNodes = [] }) => deviceNodes.some((node) => !!node.hostPath))) {
    return "0.5.0";
  }
  return uses(({ mounts = [] }) => mounts.some(({ type }) => !!type)) ? "0.4.0" : "0.3.0";
}
