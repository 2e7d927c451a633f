import type { Container } from "#core/containers/containers.ts";
import type { TaskIo } from "#core/runtime/runtime.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { quote } from "#pkg/log-format.ts";
import { parseSpec } from "#pkg/oci/parse-spec.ts";
import { restartLabels } from "./policy.ts";

/**
 * Where the output of a container started without a client goes: to the log of its label, else
 * nowhere.
 *
 * Throws `invalid-argument` for a log that is neither URI nor path, and for a spec that is none.
 */
export function taskIo(container: Pick<Container, "labels" | "spec">): TaskIo {
  const uri = container.labels[restartLabels.logUri] ?? "";
  const terminal = wantsTerminal(container.spec);
  if (uri === "") return { stdin: "", stdout: "", stderr: "", terminal: false };
  if (hasControlCharacter(uri) || !/^(\/|[A-Za-z][A-Za-z0-9+.-]*:)/.test(uri)) {
    throw invalidArgument(`label ${restartLabels.logUri}: ${quote(uri)} is no URI or path`);
  }
  return { stdin: "", stdout: uri, stderr: uri, terminal };
}

function hasControlCharacter(text: string): boolean {
  return Array.from(text).some((char) => char < " " || char === "\u007f");
}

function wantsTerminal(spec: Container["spec"]): boolean {
  if (!spec) throw invalidArgument("container has no spec");
  return parseSpec(spec.value).process?.terminal === true;
}
