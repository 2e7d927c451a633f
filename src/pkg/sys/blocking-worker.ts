import { parentPort } from "node:worker_threads";

import { runRequest } from "#pkg/sys/blocking-message.ts";
import { linux } from "#pkg/sys/linux.ts";

parentPort?.on("message", (request: unknown) => {
  parentPort?.postMessage(runRequest(linux, request));
});
