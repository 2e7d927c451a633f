import { join } from "node:path";
import { debianProgram, newerProgram } from "#test/support/debian.ts";
import type { Need } from "#test/support/needs.ts";

const project = join(import.meta.dirname, "../../..");

/** A daemon and a shim that run tasks together. Go's in several versions; `ours` is this project's. */
export interface Way {
  readonly daemon: "go-1.6" | "go-2" | "ours";
  readonly shim: "go-1.6" | "go-1.7" | "go-2" | "ours";
}

/** The Go daemon to start; undefined for ours. */
export function goDaemonOf(way: Way): string | undefined {
  switch (way.daemon) {
    case "go-1.6":
      return debianProgram("containerd");
    case "go-2":
      return newerProgram("sid", "containerd");
    case "ours":
      return undefined;
  }
}

/** The name of a runtime: the path of its shim, or what stands for the daemon's own. */
export function runtimeOf(way: Way): string {
  if (way.daemon === way.shim) return "io.containerd.runc.v2";
  switch (way.shim) {
    case "go-1.6":
      return debianProgram("containerd-shim-runc-v2");
    case "go-1.7":
      return newerProgram("trixie", "containerd-shim-runc-v2");
    case "go-2":
      return newerProgram("sid", "containerd-shim-runc-v2");
    case "ours":
      return join(project, "bin/containerd-shim-runc-v2");
  }
}

export function needsOf({ daemon, shim }: Way): Need[] {
  const needs: Need[] = ["runc"];
  if (daemon === "go-2" || shim === "go-2") needs.push("sid");
  if (shim === "go-1.7") needs.push("trixie");
  return needs;
}

export function nameOf({ daemon, shim }: Way): string {
  const of = (who: string): string => (who === "ours" ? "ours" : who.replace("go-", "Go's "));
  return `${of(daemon)} with ${daemon === shim ? "its own shim" : `the shim of ${of(shim)}`}`;
}
