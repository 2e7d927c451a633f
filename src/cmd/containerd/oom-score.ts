import { open } from "node:fs/promises";
import { outOfRange } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";

/**
 * Makes the kernel spare (negative) or prefer (positive) the daemon when memory runs out. Zero
 * leaves it as it is. The daemon runs on where it may not: that is one warning.
 */
export async function applyOomScore(score: number, logger: Logger): Promise<void> {
  if (score === 0) return;
  logger.debug(`changing OOM score to ${score}`);
  try {
    if (score < -1000 || score > 1000) {
      throw outOfRange(`OOM score must be between -1000 and 1000, got ${score}`);
    }
    await using file = await open("/proc/self/oom_score_adj", "w");
    await file.writeFile(String(score));
  } catch (error) {
    logger.warn(`failed to change OOM score to ${score}`, { error });
  }
}
