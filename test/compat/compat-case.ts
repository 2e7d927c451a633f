/**
 * Command lines whose answers are Go containerd's: recorded there into `golden/NAME.txt`, asked of ours.
 *
 * A case runs alone: a daemon of its own on empty folders, a namespace of its own. Its lines are run by a shell one
 * after the other, whatever each returns; what they print and return is the transcript that is compared. Besides `ctr`
 * and `containerd` a line may use what `shell.sh` defines. A line that ends in `# in any order` prints a table whose
 * rows are sorted before they are compared.
 */
export interface CompatCase {
  /** A sentence in kebab-case: the file name of the recording. */
  readonly name: string;
  readonly given?: readonly Given[];
  readonly lines: readonly string[];
  /** The machine must have these. */
  readonly needs?: readonly ("overlayfs" | "cni" | "crun")[];
  /**
   * Why our daemon answers otherwise, on purpose. Its answer is then `golden/NAME.ours.txt`, and docs/compat.md says
   * so too.
   */
  readonly differs?: string;
}

/**
 * What is there before the first line:
 * `busybox`: the image $busybox, imported; `archive`: the same as the file busybox.tar, not imported;
 * `registry`: images to pull, from Debian's docker-registry at $registry (busybox:1, and multi:1 for two platforms);
 * `rootfs`: the folder rootfs with busybox, and spec.json, a runtime specification for it that sets no limits.
 */
export type Given = "busybox" | "archive" | "registry" | "rootfs";
