import type { CdiDeviceNode, ContainerEdits } from "#pkg/cdi/cdi-spec.ts";
import { invalidArgument, messageOf } from "#pkg/errors.ts";
import { deviceAt } from "#pkg/oci/devices.ts";
import type { LinuxDevice } from "#pkg/oci/linux-spec.ts";

/** Edits whose nodes say all that a runtime needs to make them. */
export type CompleteEdits = Omit<ContainerEdits, "deviceNodes"> & {
  readonly deviceNodes: readonly CompleteNode[];
};

type CompleteNode = Omit<CdiDeviceNode, "type"> & { readonly type: string };

/**
 * Nodes that do not say type and numbers get those of the host's. Throws `invalid-argument` when
 * the host has none, or one of another type.
 */
export async function completeEdits(edits: ContainerEdits): Promise<CompleteEdits> {
  const deviceNodes = await Promise.all((edits.deviceNodes ?? []).map(complete));
  return { ...edits, deviceNodes };
}

async function complete(node: CdiDeviceNode): Promise<CompleteNode> {
  const { type = "", major = 0, minor = 0 } = node;
  const hostPath = node.hostPath || node.path;
  // FIFOs have no numbers.
  const isComplete = type !== "" && (major !== 0 || type === "p");
  const host = await hostDevice(hostPath, isComplete);
  if (!host) return { ...node, type };
  const fileMode = node.fileMode ?? host.fileMode ?? 0;
  if (isComplete) return { ...node, type, fileMode };
  if (type !== "" && type !== host.type) {
    const paths = `(${JSON.stringify(node.path)}, ${JSON.stringify(hostPath)})`;
    throw invalidArgument(`CDI device ${paths}, host type mismatch (${type}, ${host.type})`);
  }
  if (host.type === "p" || major !== 0) return { ...node, type: host.type, fileMode, major, minor };
  const numbers = { major: Number(host.major), minor: Number(host.minor) };
  return { ...node, type: host.type, fileMode, ...numbers };
}

/** A vendor may say everything itself; then the host need not have the device. */
async function hostDevice(path: string, isOptional: boolean): Promise<LinuxDevice | undefined> {
  try {
    const device = await deviceAt(path);
    if (!device) throw invalidArgument("not a device node");
    return device;
  } catch (error) {
    if (isOptional) return undefined;
    const context = `failed to stat CDI host device ${JSON.stringify(path)}`;
    throw invalidArgument(`${context}: ${messageOf(error)}`, { cause: error });
  }
}
