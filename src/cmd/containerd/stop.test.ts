import assert from "node:assert/strict";
import { test } from "node:test";
import { stopInTime } from "#cmd/containerd/stop.ts";
import { formatText } from "#pkg/log-format.ts";
import { LogWriter } from "#pkg/log-writer.ts";

const record = (uri: string, state: "started" | "stopped") =>
  // -- what is asked of a record here
  ({ uri, state }) as unknown as Parameters<typeof stopInTime>[1]["records"][number];

test("a daemon that stops is a success", async () => {
  const { root: logger } = new LogWriter({ level: "info", format: formatText, write() {} });
  const daemon = { [Symbol.asyncDispose]: async () => undefined };
  assert.equal(await stopInTime(daemon, { records: [], logger }), 0);
});

test("a plugin that hangs is given up, and named", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const lines: string[] = [];
  const { root: logger } = new LogWriter({
    level: "info",
    format: formatText,
    write: (line) => lines.push(line),
  });
  const daemon = { [Symbol.asyncDispose]: () => new Promise<void>(() => undefined) };
  const records = [record("a.v1.hangs", "started"), record("b.v1.done", "stopped")];
  const code = stopInTime(daemon, { records, logger });
  t.mock.timers.tick(10_000);
  assert.equal(await code, 1);
  assert.match(
    lines.join(),
    /level=error msg="plugins did not stop in time" plugins=\S*a\.v1\.hangs/,
  );
  assert.doesNotMatch(lines.join(), /b\.v1\.done/);
});
