import * as v from "valibot";
import { invalidArgument } from "#pkg/errors.ts";
import { assertClass, assertDeviceName, assertVendor } from "#pkg/cdi/names.ts";
import { assertCdiVersion } from "#pkg/cdi/version.ts";

/**
 * A file by which a vendor says what its devices need in a container (Container Device Interface).
 *
 * Keys are those of the file. What is not known is refused, as upstream does: a device that is only
 * half injected is worse than none.
 */
export type CdiSpec = v.InferOutput<typeof specSchema>;
export type CdiDevice = CdiSpec["devices"][number];
/** What a container's specification has to be changed by. */
export type ContainerEdits = v.InferOutput<typeof editsSchema>;
export type CdiDeviceNode = v.InferOutput<typeof deviceNode>;

const text = v.exactOptional(v.string());
const texts = v.exactOptional(v.array(v.string()));
const list = <S extends v.GenericSchema>(item: S) => v.exactOptional(v.array(item));
const integer = v.pipe(v.number(), v.safeInteger());
const id = v.pipe(integer, v.minValue(0), v.maxValue(0xffffffff));
const required = v.pipe(v.string(), v.minLength(1, "is empty"));
const variable = v.pipe(v.string(), v.regex(/^[^=]+=/, "is no environment variable"));
const env = v.exactOptional(v.array(variable));
const annotations = v.exactOptional(v.record(v.string(), v.string()));

const deviceNode = v.strictObject({
  path: required,
  hostPath: text,
  type: v.exactOptional(v.picklist(["", "b", "c", "u", "p"])),
  major: v.exactOptional(integer),
  minor: v.exactOptional(integer),
  fileMode: v.exactOptional(id),
  permissions: v.exactOptional(v.pipe(v.string(), v.regex(/^([rwm]*|none)$/, "is invalid"))),
  uid: v.exactOptional(id),
  gid: v.exactOptional(id),
});

const hook = v.strictObject({
  hookName: v.picklist([
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
  ]),
  path: required,
  args: texts,
  env,
  timeout: v.exactOptional(integer),
});

const mount = v.strictObject({
  hostPath: required,
  containerPath: required,
  options: texts,
  type: text,
});

const isClosId = (name: string): boolean =>
  name === "/" || (name.length < 4096 && name !== "." && name !== ".." && !/[/\n]/.test(name));

const intelRdt = v.strictObject({
  closID: v.exactOptional(v.pipe(v.string(), v.check(isClosId, "is no name of a class"))),
  l3CacheSchema: text,
  memBwSchema: text,
  schemata: texts,
  enableMonitoring: v.exactOptional(v.boolean()),
});

const editsSchema = v.strictObject({
  env,
  deviceNodes: list(deviceNode),
  netDevices: list(v.strictObject({ hostInterfaceName: required, name: required })),
  hooks: list(hook),
  mounts: list(mount),
  intelRdt: v.exactOptional(intelRdt),
  additionalGids: list(id),
});

const specSchema = v.strictObject({
  cdiVersion: v.string(),
  kind: v.string(),
  annotations,
  devices: v.array(v.strictObject({ name: v.string(), annotations, containerEdits: editsSchema })),
  containerEdits: v.exactOptional(editsSchema),
});

/**
 * Looks at a parsed file. Throws `invalid-argument` naming the field, for a version that is not
 * known or older than what is used, and for names that are none.
 */
export function checkCdiSpec(value: unknown): CdiSpec {
  const result = v.safeParse(specSchema, value, { abortEarly: true });
  if (!result.success) {
    const [issue] = result.issues;
    const path = issue.path?.map((item) => String(item.key)).join(".") ?? "";
    throw invalidArgument(`CDI spec: ${path === "" ? "" : `${path}: `}${issue.message}`);
  }
  const spec = result.output;
  assertCdiVersion(spec);
  const { vendor, cdiClass } = kindOf(spec);
  assertVendor(vendor);
  assertClass(cdiClass);
  if (spec.devices.length === 0) throw invalidArgument("CDI spec: no devices");
  const names = new Set<string>();
  for (const device of spec.devices) {
    assertDeviceName(device.name);
    if (names.has(device.name)) {
      throw invalidArgument(`CDI spec: multiple device ${JSON.stringify(device.name)}`);
    }
    names.add(device.name);
    assertEdits(device.containerEdits);
    if (isEmpty(device.containerEdits)) {
      throw invalidArgument(`CDI spec: device ${JSON.stringify(device.name)}: empty edits`);
    }
  }
  if (spec.containerEdits) assertEdits(spec.containerEdits);
  return spec;
}

/** `vendor.com/class`, taken apart. */
export function kindOf({ kind }: Pick<CdiSpec, "kind">): { vendor: string; cdiClass: string } {
  const at = kind.indexOf("/");
  if (at <= 0 || at === kind.length - 1) return { vendor: "", cdiClass: kind };
  return { vendor: kind.slice(0, at), cdiClass: kind.slice(at + 1) };
}

function assertEdits({ netDevices = [] }: ContainerEdits): void {
  const [hosts, names] = [
    netDevices.map(({ hostInterfaceName }) => hostInterfaceName),
    netDevices.map(({ name }) => name),
  ];
  for (const given of [hosts, names]) {
    const twice = given.find((name, i) => given.indexOf(name) !== i);
    if (twice !== undefined) {
      throw invalidArgument(`CDI spec: duplicate net device ${JSON.stringify(twice)}`);
    }
  }
}

function isEmpty(edits: ContainerEdits): boolean {
  return Object.values(edits).every((part) => Array.isArray(part) && part.length === 0);
}
