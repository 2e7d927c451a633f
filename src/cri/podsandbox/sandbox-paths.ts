import { join } from "node:path";

/** Directories of the CRI plugin: `root` outlives a reboot, `state` does not. */
export interface CriRoots {
  readonly root: string;
  readonly state: string;
}

/** Where the files of one sandbox are. Its id is an identifier, so that no path leads elsewhere. */
export interface SandboxPaths {
  readonly root: string;
  readonly state: string;
  readonly hostname: string;
  readonly hosts: string;
  readonly resolvConf: string;
  readonly shm: string;
  /** The user namespace, kept by a mount: the pause container is not there yet when it is needed. */
  readonly userNamespace: string;
}

const sandboxes = "sandboxes";

export function sandboxPaths(roots: CriRoots, id: string): SandboxPaths {
  const root = join(roots.root, sandboxes, id);
  const state = join(roots.state, sandboxes, id);
  return {
    root,
    state,
    hostname: join(root, "hostname"),
    hosts: join(root, "hosts"),
    resolvConf: join(root, "resolv.conf"),
    shm: join(state, "shm"),
    userNamespace: join(state, "pinned-namespaces", "user"),
  };
}

/** The directories that hold those of all sandboxes. */
export function allSandboxes(roots: CriRoots): readonly string[] {
  return [join(roots.root, sandboxes), join(roots.state, sandboxes)];
}
