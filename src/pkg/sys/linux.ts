import { descriptorCalls } from "#pkg/sys/linux-descriptor.ts";
import { fileCalls } from "#pkg/sys/linux-file.ts";
import { loopCalls } from "#pkg/sys/linux-loop.ts";
import { mountCalls } from "#pkg/sys/linux-mount.ts";
import { processCalls } from "#pkg/sys/linux-process.ts";
import { userNamespaceCalls } from "#pkg/sys/linux-user-namespace.ts";
import { socketCalls } from "#pkg/sys/linux-socket.ts";
import { xattrCalls } from "#pkg/sys/linux-xattr.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/** The running kernel, through the C library. Linux with 64 bits, x86-64 or arm64. */
export const linux: Syscalls = {
  ...mountCalls,
  ...fileCalls,
  ...xattrCalls,
  ...processCalls,
  ...userNamespaceCalls,
  ...descriptorCalls,
  ...loopCalls,
  ...socketCalls,
};
