/** Annotations by which runtimes and shims know what a container is in its pod. */
export const annotations = {
  containerType: "io.kubernetes.cri.container-type",
  sandboxId: "io.kubernetes.cri.sandbox-id",
  sandboxNamespace: "io.kubernetes.cri.sandbox-namespace",
  sandboxUid: "io.kubernetes.cri.sandbox-uid",
  sandboxName: "io.kubernetes.cri.sandbox-name",
  sandboxLogDirectory: "io.kubernetes.cri.sandbox-log-directory",
  sandboxImageName: "io.kubernetes.cri.podsandbox.image-name",
  sandboxCpuPeriod: "io.kubernetes.cri.sandbox-cpu-period",
  sandboxCpuQuota: "io.kubernetes.cri.sandbox-cpu-quota",
  sandboxCpuShares: "io.kubernetes.cri.sandbox-cpu-shares",
  sandboxMemory: "io.kubernetes.cri.sandbox-memory",
  /** Of a pod: `true` asks for the runtime of that name. */
  untrustedWorkload: "io.kubernetes.cri.untrusted-workload",
} as const;

/** Labels and extensions of records that CRI makes. */
export const labels = {
  kind: "io.cri-containerd.kind",
  /** Of an image, `managed`: CRI lists it. */
  image: "io.cri-containerd.image",
  /** Of an image, `pinned`: a kubelet does not collect it. */
  pinned: "io.cri-containerd.pinned",
  /** An extension of the sandbox's container. */
  sandboxMetadata: "io.cri-containerd.sandbox.metadata",
  /** Of a lease: of which sandbox it holds what its start makes. Ours alone. */
  sandboxStart: "io.cri-containerd.sandbox.start",
} as const;

export const sandboxKind = "sandbox";
