import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { ProcessMetrics, processFamilies } from "./process-metrics.ts";
import { formatMetrics } from "./text.ts";

// Fields 3 to 24 of /proc/PID/stat; the name before them tries to be taken for some.
const fields = "S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 7 0 1000 8192 3";

suite("process metrics", () => {
  test("processFamilies() counts fields from the end of the name", () => {
    const families = processFamilies({
      stat: `42 (a) S 1 2 (b)) ${fields} 99\n`,
      limits: "Max open files            1024                 2048       files\n",
      machine: "cpu 1 2\nbtime 1700000000\n",
      openFiles: 7,
    });
    const lines = formatMetrics(families).split("\n");
    assert.deepEqual(
      lines.filter((line) => !line.startsWith("#") && line !== ""),
      [
        "process_cpu_seconds_total 2",
        "process_max_fds 1024",
        "process_open_fds 7",
        "process_resident_memory_bytes 12288",
        "process_start_time_seconds 1.70000001e+09",
        "process_virtual_memory_bytes 8192",
      ],
    );
  });

  test("ProcessMetrics tells of this process", async () => {
    const text = formatMetrics(await new ProcessMetrics().collect());
    const [, start] = /^process_start_time_seconds (\S+)$/m.exec(text) ?? [];
    const expected = Date.now() / 1000 - process.uptime();
    assert.ok(Math.abs(Number(start) - expected) < 5, `${start} is not about ${expected}`);
  });
});
