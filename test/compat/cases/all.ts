import type { CompatCase } from "../compat-case.ts";
import { containerCases } from "./containers.ts";
import { daemonCases } from "./daemon.ts";
import { imageCases } from "./images.ts";
import { storageCases } from "./storage.ts";
import { taskCases } from "./tasks.ts";

export const compatCases: readonly CompatCase[] = [
  ...daemonCases,
  ...imageCases,
  ...storageCases,
  ...containerCases,
  ...taskCases,
];
