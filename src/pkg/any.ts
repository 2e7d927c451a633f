/**
 * A typed blob as the wire carries it: runtime options, specs, extensions, event payloads.
 *
 * `typeUrl` is a bare name (`containerd.events.TaskExit`) for protobuf values and
 * `types.containerd.io/opencontainers/runtime-spec/1/Spec` and the like for JSON ones; never `type.googleapis.com/`.
 */
export interface Any {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}
