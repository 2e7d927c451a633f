import type { Context } from "#pkg/context.ts";

/**
 * A listener. It is started when every plugin has been initialised, and stopped by being disposed.
 */
export interface Server extends AsyncDisposable {
  start(ctx: Context): Promise<void>;
}
