import { invalidArgument } from "#pkg/errors.ts";

/**
 * What a client may say about the runtime, `containerd.runc.v1.Options`. Empty strings are "not
 * said".
 */
export interface RuncOptions {
  readonly noPivotRoot: boolean;
  readonly noNewKeyring: boolean;
  readonly shimCgroup: string;
  readonly ioUid: number;
  readonly ioGid: number;
  readonly binaryName: string;
  readonly root: string;
  readonly systemdCgroup: boolean;
  readonly criuImagePath: string;
  readonly criuWorkPath: string;
}

export const defaultOptions: RuncOptions = {
  noPivotRoot: false,
  noNewKeyring: false,
  shimCgroup: "",
  ioUid: 0,
  ioGid: 0,
  binaryName: "",
  root: "",
  systemdCgroup: false,
  criuImagePath: "",
  criuWorkPath: "",
};

const jsonKey = {
  noPivotRoot: "no_pivot_root",
  noNewKeyring: "no_new_keyring",
  shimCgroup: "shim_cgroup",
  ioUid: "io_uid",
  ioGid: "io_gid",
  binaryName: "binary_name",
  root: "root",
  systemdCgroup: "systemd_cgroup",
  criuImagePath: "criu_image_path",
  criuWorkPath: "criu_work_path",
} as const satisfies Record<keyof RuncOptions, string>;

/** The text of a bundle's `options.json`: Go's field names, what is at its default left out. */
export function formatOptions(options: RuncOptions): string {
  const said = Object.entries(jsonKey)
    // -- keys of the table are the options' own
    .map(([key, name]) => [name, options[key as keyof RuncOptions]] as const)
    .filter(([, value]) => value !== "" && value !== 0 && value !== false);
  return JSON.stringify(Object.fromEntries(said));
}

/** Throws `invalid-argument` naming the key when `options.json` is not what it should be. */
export function parseOptions(text: string): RuncOptions {
  const parsed: unknown = JSON.parse(text);
  if (typeof parsed !== "object" || parsed === null) {
    throw invalidArgument(`options.json is not an object: ${text.slice(0, 100)}`);
  }
  const fields = parsed as Readonly<Record<string, unknown>>; // -- just seen to be an object
  const out: Record<string, unknown> = { ...defaultOptions };
  for (const [key, name] of Object.entries(jsonKey)) {
    const value = fields[name];
    if (value === undefined) continue;
    if (typeof value !== typeof out[key]) {
      throw invalidArgument(`options.json: ${name} is ${JSON.stringify(value)}`);
    }
    out[key] = value;
  }
  return out as unknown as RuncOptions; // -- every key was given the type of its default
}
