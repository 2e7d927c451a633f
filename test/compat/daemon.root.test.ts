import { daemonCases } from "./cases/daemon.ts";
import { compatTests } from "./compat-tests.ts";

compatTests(daemonCases);
