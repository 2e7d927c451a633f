import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Mount } from "#core/mount/mount.ts";
import { CodedError, messageOf } from "#pkg/errors.ts";
import { Container } from "./container.ts";
import { openIo } from "./open-io.ts";
import { formatOptions, type RuncOptions } from "./options.ts";
import type { ProcessIo } from "./process-io.ts";
import { readPidFile } from "./process-watch.ts";
import { mountRootfs, rootfsOf, unmountBelow } from "./rootfs.ts";
import { RuntimeCli } from "./runtime-cli.ts";
import type { ShimServices } from "./shim-services.ts";
import { type BundleSpec, readSpec, rewriteVersion } from "./spec.ts";
import type { Stdio } from "./stdio.ts";
import { removeTaskRecord, writeTaskRecord } from "./task-record.ts";

/** Where runc's states of all namespaces lie when the client does not say. */
export const defaultRuntimeRoot = "/run/containerd/runc";

export interface CreateRequest {
  readonly id: string;
  readonly bundle: string;
  readonly rootfs: readonly Mount[];
  readonly stdio: Stdio;
  readonly options: RuncOptions;
}

/**
 * Makes a container from its bundle: rootfs mounted, streams open, the runtime's `create` done.
 *
 * On a failure nothing is left but the bundle as it was given. A crash in between leaves
 * `task.json` with the phase `creating`, by which the next supervisor knows what to roll back.
 */
export async function createContainer(
  services: ShimServices,
  request: CreateRequest,
): Promise<Container> {
  const { id, bundle, rootfs } = request;
  const spec = await readSpec(bundle);
  const runtime = await chooseRuntime(services, request, spec);
  const container = new Container(services, {
    id,
    bundle,
    runtime,
    stdio: request.stdio,
    ioUid: request.options.ioUid,
    ioGid: request.options.ioGid,
    hasRootfs: rootfs.length > 0,
    hasOwnPidNamespace: spec.hasOwnPidNamespace,
  });
  await using undo = new AsyncDisposableStack();
  await writeFile(join(bundle, "options.json"), formatOptions(request.options), { mode: 0o600 });
  await writeFile(join(bundle, "runtime"), runtime.settings.path, { mode: 0o600 });
  undo.defer(() => removeTaskRecord(bundle));
  await writeTaskRecord(bundle, { ...container.record(), phase: "creating" });
  services.failpoints.hit("shim.create-recorded");
  if (rootfs.length > 0) {
    undo.defer(() => unmountQuietly(services, bundle));
    await mountRootfs(services, rootfs, rootfsOf(bundle));
  }
  services.failpoints.hit("shim.create-mounted");
  const io = await openInitIo(services, request, container);
  undo.defer(() => io.close());
  const mark = services.reaper.mark();
  undo.defer(() => deleteQuietly(services, runtime, id));
  await runCreate(runtime, io, request);
  services.failpoints.hit("shim.create-made");
  const pid = await readPidFile(pidFileOf(bundle), "failed to retrieve OCI runtime container pid");
  using _hold = container.init.hold();
  const created = container.events.owe({
    topic: "/tasks/create",
    containerId: id,
    bundle,
    rootfs,
    stdio: request.stdio,
    pid,
  });
  undo.defer(() => container.undone());
  await container.created(pid, mark, io);
  services.failpoints.hit("shim.create-kept");
  container.events.tell(created);
  undo.move();
  return container;
}

async function chooseRuntime(
  services: ShimServices,
  { bundle, options }: CreateRequest,
  spec: BundleSpec,
): Promise<RuntimeCli> {
  try {
    const { path, name, specVersion } = await services.probe.choose(options, spec);
    if (specVersion !== undefined) await rewriteVersion(bundle, spec, specVersion);
    return new RuntimeCli(
      {
        path,
        name,
        root: join(options.root === "" ? defaultRuntimeRoot : options.root, services.namespace),
        bundle,
        systemdCgroup: options.systemdCgroup,
      },
      services.children,
    );
  } catch (error) {
    const log = join(bundle, "log.json");
    const text =
      `OCI runtime create failed: unable to retrieve OCI runtime error ` +
      `(open ${log}: no such file or directory): ${messageOf(error)}`;
    throw new CodedError("unknown", text, { cause: error });
  }
}

async function openInitIo(
  services: ShimServices,
  { stdio, options }: CreateRequest,
  { id: containerId, init }: Container,
): Promise<ProcessIo> {
  const { ioUid, ioGid } = options;
  const onChange = (): void => init.changed();
  try {
    return await openIo(stdio, { ...services, containerId, ioUid, ioGid, onChange });
  } catch (error) {
    const text = `failed to create init process I/O: ${messageOf(error)}`;
    throw new CodedError("unknown", text, { cause: error });
  }
}

async function runCreate(
  runtime: RuntimeCli,
  io: ProcessIo,
  request: CreateRequest,
): Promise<void> {
  const { id, bundle, options } = request;
  await runtime.create(id, {
    pidFile: pidFileOf(bundle),
    consoleSocket: io.consoleSocket,
    noPivot: options.noPivotRoot,
    noNewKeyring: options.noNewKeyring,
    stdio: io.childStdio,
  });
  await io.start();
}

export function pidFileOf(bundle: string): string {
  return join(bundle, "init.pid");
}

// Only what the runtime has made: one that failed before has cleaned up itself and knows nothing.
async function deleteQuietly(
  services: ShimServices,
  runtime: RuntimeCli,
  id: string,
): Promise<void> {
  try {
    if (await runtime.knows(id)) await runtime.delete(id, "force");
  } catch (error) {
    services.logger.error("failed to delete a container that was not made", { error, id });
  }
}

async function unmountQuietly(services: ShimServices, bundle: string): Promise<void> {
  try {
    await unmountBelow(services.sys, rootfsOf(bundle));
  } catch (error) {
    services.logger.warn("failed to cleanup rootfs mount", { error, bundle });
  }
}
