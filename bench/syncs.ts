import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { until } from "#test/support/processes.ts";

const calls = ["fsync", "fdatasync", "syncfs"] as const;

/** How often a process and its threads asked the kernel to write back, by call, while `work` ran. */
export async function countSyncs(
  pid: number,
  work: () => Promise<void>,
): Promise<Map<string, number>> {
  const args = ["-f", "-qq", "-e", `trace=${calls.join(",")}`, "-p", String(pid)];
  const tracer = spawn("strace", args, { stdio: ["ignore", "ignore", "pipe"] });
  let text = "";
  tracer.stderr.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  const closed = once(tracer, "close");
  await until("strace has attached", async () => {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    return tracer.exitCode !== null || !/^TracerPid:\t0$/m.test(status);
  });
  try {
    await work();
  } finally {
    tracer.kill("SIGINT");
    await closed;
  }
  // A call that another thread interrupts is written twice, the second time as `<... fsync resumed>`.
  return new Map(
    calls.map((call) => [call, text.match(new RegExp(`\\b${call}\\(`, "g"))?.length ?? 0]),
  );
}
