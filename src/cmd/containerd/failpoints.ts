import { invalidArgument } from "#pkg/errors.ts";
import { type Failpoints, namesIn, noFailpoints, parseFailpoints } from "#pkg/failpoint.ts";
import type { Logger } from "#pkg/log.ts";

/**
 * Every failpoint of the daemon and, with names that begin with `shim`, of the supervisor
 * (`CONTAINERD_SHIM_FAILPOINTS`), and between which two steps it stands.
 */
export const failpoints: Readonly<Record<string, string>> = {
  "content.before-sync": "a blob's bytes are written, not yet synced",
  "content.after-sync": "they are synced, not yet verified",
  "content.after-rename": "the blob has its name, its folder is not synced",
  "content.after-directory-sync": "it is durable, its ingest still stands",
  "content.after-ingest-removed": "its ingest is gone, the commit is not answered",
  "database.before-commit": "a transaction of any database has run, not committed",
  "database.after-commit": "it is committed, its log is not synced",
  "database.after-sync": "the log is synced, nobody was answered",
  "metadata.content-before-record": "a blob is durable, no record names it",
  "metadata.snapshot-before-record": "a backend has made a snapshot, no record names it",
  "metadata.snapshot-commit-intended": "a commit is recorded as intended, the backend not asked",
  "metadata.snapshot-commit-before-record": "the backend has committed, the record says intended",
  "metadata.marked": "a collection has marked, nothing is deleted",
  "metadata.collected-before-sweep": "its records are deleted, no backend is swept",
  "metadata.sweep-before-snapshot": "a snapshot is about to be swept",
  "native.directory-made": "a snapshot's directory stands, its record does not",
  "native.commit-synced": "a snapshot's files are synced, it is not committed",
  "native.record-removed": "a snapshot's record is gone, its directory stands",
  "overlayfs.directory-made": "as for native",
  "overlayfs.commit-synced": "as for native",
  "overlayfs.record-removed": "as for native",
  "pod.snapshot-made": "a pod's files and snapshot stand, no container is on record",
  "pod.recorded": "its container is on record, it has no task",
  "pod.created": "its task is created, not started",
  "pod.started": "its task runs, nobody was answered",
  "pod.files-removed": "a removed pod's files are gone, its container is on record",
  "task.bundle-made": "a task's bundle stands, no shim knows of it",
  "task.shim-recorded": "the bundle names its shim, which was not asked to create",
  "task.created": "the shim has created, nobody was answered",
  "task.started": "a process was started, nobody was answered",
  "task.exec-added": "an exec was added, nobody was answered",
  "task.deleted": "the shim has deleted, its shutdown was not asked",
  "task.shut-down": "the shim is told, the bundle stands",
  "shim.create-recorded": "a creation is recorded as begun, nothing is mounted",
  "shim.create-mounted": "the root is mounted, the runtime was not called",
  "shim.create-made": "the runtime has created, the record says begun",
  "shim.create-kept": "the record says created, nobody was answered",
  "shim.record": "a created task's record is about to be written anew",
  "shim.start-made": "the runtime has started, the record says created",
  "shim.start-kept": "the record says running, nobody was answered",
  "shim.pause-made": "the runtime has paused, the record says running",
  "shim.resume-made": "the runtime has resumed, the record says paused",
  "shim.exec-written": "an added exec's process is in the bundle, no record names it",
  "shim.exec-added": "the record names the added exec, nobody was answered",
  "shim.exec-deleted": "a deleted exec is off the record, nobody was answered",
  "shim.exec-called": "the runtime is about to be asked for an exec, no record names it",
  "shim.exec-made": "the runtime has made an exec, no record names it",
  "shim.exec-kept": "the record names the exec, nobody was answered",
  "shim.exec-ended": "the record says how an exec has ended, its pidfd is handed over still",
  "shim.delete-made": "the runtime has deleted, the root is mounted",
  "shim.delete-unmounted": "the root is unmounted, the record stands",
  "shim.delete-kept": "the record is gone, nobody was answered",
};

/**
 * What `CONTAINERD_FAILPOINTS` asks for, as `parseFailpoints` reads it.
 *
 * Never silently: a daemon that fails on purpose says so, and one that was told a name that is none does not start.
 */
export function readFailpoints(spec: string | undefined, logger: Logger): Failpoints {
  if (spec === undefined || spec === "") return noFailpoints;
  const unknown = namesIn(spec).find((name) => !Object.hasOwn(failpoints, name));
  if (unknown !== undefined) {
    throw invalidArgument(`CONTAINERD_FAILPOINTS: ${JSON.stringify(unknown)} is no failpoint`);
  }
  const parsed = parseFailpoints(spec);
  logger.warn("failpoints are on: this daemon fails where it is told to", { failpoints: spec });
  return parsed;
}
