import { codeOf, type ErrorCode } from "#pkg/errors.ts";

/** How a call ended: `ok`, or the code of what it threw. What has no code is no answer and is thrown on. */
export async function outcome(call: Promise<unknown>): Promise<ErrorCode | "ok"> {
  try {
    await call;
    return "ok";
  } catch (error) {
    const code = codeOf(error);
    if (code === "unknown" || code === "internal") throw error;
    return code;
  }
}
