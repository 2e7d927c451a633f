// Exits 0 when node_modules holds what package-lock.json asks for. Plain JavaScript: it runs before anything is set up.
import { readFileSync } from "node:fs";

const lock = JSON.parse(readFileSync("package-lock.json", "utf8"));
for (const [path, entry] of Object.entries(lock.packages)) {
  if (path === "") continue;
  let installed;
  try {
    installed = JSON.parse(readFileSync(`${path}/package.json`, "utf8")).version;
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
  }
  if (installed === entry.version || (installed === undefined && entry.optional)) continue;
  console.log(`${path}: ${installed ?? "nothing"} instead of ${entry.version}`);
  process.exitCode = 1;
}
