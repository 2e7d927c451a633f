import { storageCases } from "./cases/storage.ts";
import { compatTests } from "./compat-tests.ts";

compatTests(storageCases);
