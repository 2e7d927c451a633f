/**
 * Every topic the daemon publishes under, as upstream. `core/events/convert.ts` has the payloads by
 * the same names.
 */
export const topics = {
  containerCreate: "/containers/create",
  containerUpdate: "/containers/update",
  containerDelete: "/containers/delete",
  contentCreate: "/content/create",
  contentDelete: "/content/delete",
  imageCreate: "/images/create",
  imageUpdate: "/images/update",
  imageDelete: "/images/delete",
  namespaceCreate: "/namespaces/create",
  namespaceUpdate: "/namespaces/update",
  namespaceDelete: "/namespaces/delete",
  sandboxCreate: "/sandboxes/create",
  sandboxStart: "/sandboxes/start",
  sandboxExit: "/sandboxes/exit",
  snapshotPrepare: "/snapshot/prepare",
  snapshotCommit: "/snapshot/commit",
  snapshotRemove: "/snapshot/remove",
  taskCreate: "/tasks/create",
  taskStart: "/tasks/start",
  taskOom: "/tasks/oom",
  taskExit: "/tasks/exit",
  taskDelete: "/tasks/delete",
  taskExecAdded: "/tasks/exec-added",
  taskExecStarted: "/tasks/exec-started",
  taskPaused: "/tasks/paused",
  taskResumed: "/tasks/resumed",
  taskCheckpointed: "/tasks/checkpointed",
} as const;
