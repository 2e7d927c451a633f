// Preloaded into our daemon by `--profile`. It ends by exit_group, before Node would write a profile of its own.
import { writeFileSync } from "node:fs";
import { Session } from "node:inspector";
import { join } from "node:path";
import { isMainThread } from "node:worker_threads";

const directory = process.env["BENCH_PROFILE_DIR"];
if (directory !== undefined && isMainThread) {
  const session = new Session();
  session.connect();
  session.post("Profiler.enable");
  session.post("Profiler.start");
  process.once("SIGTERM", () => {
    session.post("Profiler.stop", (error, result) => {
      if (error) throw error;
      const file = join(directory, `daemon-${process.pid}.cpuprofile`);
      writeFileSync(file, JSON.stringify(result.profile));
    });
  });
}
