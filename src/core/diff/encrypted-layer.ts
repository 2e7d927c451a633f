import type { ProcessorStep } from "#core/diff/stream-processors.ts";
import type { Any } from "#pkg/any.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { descriptorToJson } from "#pkg/image-spec.ts";

/** Of what decoders of encrypted layers are told, ours and ocicrypt's. */
export const payloadType = "io.containerd.ocicrypt.v1.Payload";

/**
 * The payloads of a client, and for decoders of encrypted layers that it gave none the layer's descriptor: its
 * annotations hold the wrapped key, which the decoder's own keys may open.
 */
export function payloadsFor(
  steps: readonly ProcessorStep[],
  layer: Descriptor,
  given: Readonly<Record<string, Any>>,
): Readonly<Record<string, Any>> {
  const missing = steps.filter(
    ({ processor, mediaType }) =>
      mediaType.endsWith("+encrypted") && !Object.hasOwn(given, processor.id),
  );
  if (missing.length === 0) return given;
  const document = { DecryptConfig: { Parameters: null }, Descriptor: descriptorToJson(layer) };
  const payload = { typeUrl: payloadType, value: Buffer.from(JSON.stringify(document)) };
  return {
    ...given,
    ...Object.fromEntries(missing.map(({ processor }) => [processor.id, payload])),
  };
}
