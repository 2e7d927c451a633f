import { containerCases } from "./cases/containers.ts";
import { compatTests } from "./compat-tests.ts";

compatTests(containerCases);
