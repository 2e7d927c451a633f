import type { PluginPlatform } from "#pkg/plugin/plugin.ts";

/** Where this process runs, in OCI's words. */
export function hostPlatform(): PluginPlatform {
  if (process.arch === "arm64") return { os: "linux", architecture: "arm64", variant: "v8" };
  return { os: "linux", architecture: process.arch === "x64" ? "amd64" : process.arch };
}
