import type { Logger } from "#pkg/log.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/**
 * Tells systemd how far the daemon is (`READY=1`, `STOPPING=1`), where it asks to be told.
 *
 * `socket` is NOTIFY_SOCKET: a path, or `@` and a name in the abstract namespace. That nobody
 * listens there is a warning, never a reason not to go on.
 */
export function notifySystemd(
  state: "READY=1" | "STOPPING=1",
  {
    socket,
    sys,
    logger,
  }: {
    socket: string | undefined;
    sys: Pick<Syscalls, "sendDatagram">;
    logger: Logger;
  },
): void {
  if (socket === undefined || socket === "") {
    logger.debug("systemd notification is not sent (i.e. NOTIFY_SOCKET is unset)", {
      notified: false,
      state,
    });
    return;
  }
  try {
    sys.sendDatagram(socket, Buffer.from(state));
    logger.debug("systemd notification successful", { notified: true, state });
  } catch (error) {
    logger.warn("systemd notification failed", { error, state });
  }
}
