import { type Directory, DirectoryTree } from "#pkg/archive/directory-tree.ts";
import { LowerContent } from "#pkg/archive/lower-content.ts";
import { LowerLayers } from "#pkg/archive/lower-layers.ts";
import type { ByteString } from "#pkg/archive/tar-entry.ts";
import { basePath, kernelPath, parentPath } from "#pkg/archive/tree-path.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/** What could not be decided while a layer was unpacked without the layers below it. */
export interface OpenQuestions {
  /** Directories that no entry described, the outer before the inner. */
  readonly implied: readonly ByteString[];
  /** Whiteouts that may hide nothing. */
  readonly whiteouts: readonly ByteString[];
  readonly hidesRoot: boolean;
}

export function isOpen(questions: OpenQuestions): boolean {
  const { implied, whiteouts, hidesRoot } = questions;
  return implied.length > 0 || whiteouts.length > 0 || hidesRoot;
}

/**
 * Gives a layer unpacked by itself into an overlay's directory the form it has when unpacked on
 * these parents, the nearest first. Doing it again changes nothing.
 */
export function adoptLayer(
  sys: Syscalls,
  root: string,
  parents: readonly string[],
  questions: OpenQuestions,
): void {
  using tree = new DirectoryTree(sys, root);
  using lower = new LowerLayers(sys, parents);
  const content = new LowerContent(sys, tree, "overlay", true);
  const real = (path: ByteString): Directory | undefined => {
    const found = tree.resolve(path, () => undefined);
    return found?.path === path ? found : undefined;
  };
  for (const path of questions.whiteouts) {
    const parent = real(parentPath(path));
    const isIdle = parent && content.isWhiteout(parent, basePath(path)) && lower.lacks(path);
    if (isIdle) sys.unlinkat(parent.fd, kernelPath(basePath(path)), 0);
    tree.endEntry();
  }
  if (questions.hidesRoot) content.hideTop(lower.topNames());
  for (const path of questions.implied) {
    // Where the layer hides its whole root, these are from before it said so.
    const directory = real(path);
    const times = directory && lower.copyAttributes(directory);
    if (directory && times) sys.futimens(directory.fd, times);
    tree.endEntry();
  }
}
