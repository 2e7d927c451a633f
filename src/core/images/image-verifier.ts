import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";

/** Says whether an image may be pulled, from its name and what that stands for; nothing of it is here yet. */
export interface ImageVerifier {
  /** A verifier that cannot come to a judgement throws, and the image is not pulled. */
  verify(ctx: Context, name: string, target: Descriptor): Promise<Judgement>;
}

export interface Judgement {
  readonly isAccepted: boolean;
  /** For people. */
  readonly reason: string;
}
