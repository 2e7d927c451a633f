import { CodedError, codeOf, type ErrorCode } from "#pkg/errors.ts";

/**
 * How a call ended: `ok`, or the code of what it threw. A mistake of the program's own, whatever it
 * is wrapped in, is no answer and is thrown on.
 */
export async function outcome(call: Promise<unknown>): Promise<ErrorCode | "ok"> {
  try {
    await call;
    return "ok";
  } catch (error) {
    const code = codeOf(error);
    if (code === "internal" || (code === "unknown" && isMistake(error))) throw error;
    return code;
  }
}

/** Neither said on purpose nor by the kernel. */
function isMistake(error: unknown): boolean {
  let deepest = error;
  while (deepest instanceof Error && deepest.cause !== undefined) deepest = deepest.cause;
  const isOfKernel = deepest instanceof Error && "errno" in deepest;
  return !(deepest instanceof CodedError) && !isOfKernel;
}
