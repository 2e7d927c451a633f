import { join } from "node:path";

/** The folder of package.json. */
export const projectDir: string = join(import.meta.dirname, "../../..");
