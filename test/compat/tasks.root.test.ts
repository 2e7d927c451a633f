import { taskCases } from "./cases/tasks.ts";
import { compatTests } from "./compat-tests.ts";

compatTests(taskCases);
