import assert from "node:assert/strict";
import { join } from "node:path";
import { type Output, run } from "#test/support/command.ts";
import { roomTest } from "#test/support/room.ts";

const project = join(import.meta.dirname, "../../..");

/**
 * A process with the daemon's handling of failures, in which `body` runs; it says `alive` if it
 * lives on.
 */
function failing(body: string): Promise<Output> {
  const script = `
    import { AssertionError } from "node:assert";
    import { handleFailures } from "#cmd/containerd/failures.ts";
    import { formatText } from "#pkg/log-format.ts";
    import { descriptorWriter, LogWriter } from "#pkg/log-writer.ts";
    handleFailures(new LogWriter({ level: "info", format: formatText, write: descriptorWriter(2) }));
    setTimeout(() => console.log("alive"), 50);
    const inMetadata = (error) => Object.assign(error, { stack: "at x (/p/src/core/metadata/db.ts:1)" });
    ${body}`;
  const argv = [process.execPath, "--input-type=module", "--eval", script];
  return run(argv, { cwd: project, env: { NODE_DISABLE_COLORS: "1" } });
}

roomTest(
  "an error nobody caught is logged with its causes and stack, and the daemon goes on",
  async () => {
    const cause = 'new Error("read", { cause: new Error("disk is gone") })';
    const rejected = await failing(`Promise.reject(${cause});`);
    assert.deepEqual([rejected.code, rejected.stdout], [0, "alive\n"]);
    assert.match(
      rejected.stderr,
      /level=error msg="unhandled rejection" error="read: disk is gone" stack="Error: read\\n/,
    );
    const thrown = await failing('setImmediate(() => { throw new TypeError("no such method"); });');
    assert.deepEqual([thrown.code, thrown.stdout], [0, "alive\n"]);
    assert.match(thrown.stderr, /level=error msg="uncaught exception" error="no such method"/);
    const other = await failing('Promise.reject(new AssertionError({ message: "elsewhere" }));');
    assert.deepEqual([other.code, other.stdout], [0, "alive\n"]);
  },
);

roomTest("a broken invariant of the metadata ends the daemon", async () => {
  const broken = 'inMetadata(new AssertionError({ message: "two parents" }))';
  const ended = await failing(`Promise.reject(new Error("commit", { cause: ${broken} }));`);
  assert.deepEqual([ended.code, ended.stdout], [70, ""]);
  assert.match(
    ended.stderr,
    /level=fatal msg="metadata is not as it must be" error="commit: two parents"/,
  );
});
