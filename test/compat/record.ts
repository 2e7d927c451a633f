// Records what Go containerd answers: `npm run compat:record [-- NAME...]`.
// With --ours it records our own answer instead, of the named cases that differ on purpose: read it before committing.
import { openRoom } from "#test/support/room.ts";
import { compatCases } from "./cases/all.ts";
import { goldenPath, writeGolden } from "./golden.ts";
import { transcribe } from "./transcript.ts";

const args = process.argv.slice(2);
const kind = args.includes("--ours") ? "ours" : "go";
const names = args.filter((arg) => arg !== "--ours");
const unknown = names.find((name) => !compatCases.some((compatCase) => compatCase.name === name));
if (unknown !== undefined) throw new Error(`no case is called ${unknown}`);
const chosen = compatCases
  .filter((compatCase) => names.length === 0 || names.includes(compatCase.name))
  .filter((compatCase) => kind === "go" || compatCase.differs !== undefined);
let failed = 0;
for (const compatCase of chosen) {
  const { room, close } = await openRoom();
  try {
    await writeGolden(compatCase, kind, await transcribe(room, compatCase, kind));
    console.log(goldenPath(compatCase, kind));
  } catch (error) {
    failed++;
    console.error(compatCase.name, error);
  }
  try {
    await close();
  } catch (error) {
    failed++;
    console.error(compatCase.name, error);
  }
}
process.exitCode = failed > 0 ? 1 : 0;
