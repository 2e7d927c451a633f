import type { ImageVerifier, Judgement } from "#core/images/image-verifier.ts";
import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { CodedError, wrap } from "#pkg/errors.ts";

/** Throws where a verifier objects, or cannot say: an image that nobody has judged is not pulled. */
export async function verifyImage(
  ctx: Context,
  verifiers: ReadonlyMap<string, ImageVerifier>,
  { name, target }: { readonly name: string; readonly target: Descriptor },
): Promise<void> {
  const { digest } = target;
  for (const [id, verifier] of verifiers) {
    const logger = ctx.logger.with({ name, digest, verifier: id });
    let judgement: Judgement;
    try {
      judgement = await verifier.verify(ctx, name, target);
    } catch (error) {
      logger.error("No judgement received from verifier", { error });
      const what = `blocking pull of ${name} with digest ${digest}`;
      throw wrap(`${what}: image verifier ${id} returned error`, error);
    }
    const { isAccepted, reason } = judgement;
    if (!isAccepted) {
      logger.warn("Image verifier blocked pull", { ok: false, reason });
      const what = `image verifier ${id} blocked pull of ${name} with digest ${digest}`;
      throw new CodedError("unknown", `${what} for reason: ${reason}`);
    }
    logger.debug("Image verifier allowed pull", { ok: true, reason });
  }
}
