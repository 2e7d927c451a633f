import type { Mount } from "#core/mount/mount.ts";
import type { Exit } from "./process-state.ts";
import type { Stdio } from "./stdio.ts";

/** What happens to tasks, as `containerd.events` has it. */
export type TaskEvent =
  | {
      readonly topic: "/tasks/create";
      readonly containerId: string;
      readonly bundle: string;
      readonly rootfs: readonly Mount[];
      readonly stdio: Stdio;
      readonly pid: number;
    }
  | { readonly topic: "/tasks/start"; readonly containerId: string; readonly pid: number }
  | {
      readonly topic: "/tasks/exit";
      readonly containerId: string;
      readonly id: string;
      readonly exit: Exit;
    }
  | { readonly topic: "/tasks/delete"; readonly containerId: string; readonly exit: Exit }
  | { readonly topic: "/tasks/exec-added"; readonly containerId: string; readonly execId: string }
  | {
      readonly topic: "/tasks/exec-started";
      readonly containerId: string;
      readonly execId: string;
      readonly pid: number;
    }
  | { readonly topic: "/tasks/oom"; readonly containerId: string }
  | { readonly topic: "/tasks/paused"; readonly containerId: string }
  | { readonly topic: "/tasks/resumed"; readonly containerId: string };
