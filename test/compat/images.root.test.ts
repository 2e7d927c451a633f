import { imageCases } from "./cases/images.ts";
import { compatTests } from "./compat-tests.ts";

compatTests(imageCases);
