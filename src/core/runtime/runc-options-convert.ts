import { fromBinary } from "@bufbuild/protobuf";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import type { Any } from "#pkg/any.ts";

/** What runc's options say about the process that supervises, rather than about the container. */
export interface ProcessOptions {
  /** Empty where none is asked for. */
  readonly shimCgroup: string;
  readonly binaryName: string;
}

export const noProcessOptions: ProcessOptions = { shimCgroup: "", binaryName: "" };

/** Of options of another type: nothing. Theirs who reads all of them to refuse what is no message. */
export function processOptionsOf(options: Any | undefined): ProcessOptions {
  if (!options?.typeUrl.endsWith(OptionsSchema.typeName)) return noProcessOptions;
  try {
    const { shimCgroup, binaryName } = fromBinary(OptionsSchema, options.value);
    return { shimCgroup, binaryName };
  } catch {
    return noProcessOptions; // -- the supervisor's create refuses them, in its own words
  }
}
