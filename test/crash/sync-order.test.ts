import assert from "node:assert";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { digestHex, digestOf } from "#pkg/digest.ts";
import { runDebian } from "#test/support/debian.ts";
import { layersOf } from "#test/crash/storage-program.ts";

const program = fileURLToPath(new URL("./storage-program.ts", import.meta.url));
const calls = "trace=fsync,fdatasync,rename,renameat,renameat2,write,pwrite64";

async function mayTrace(): Promise<boolean> {
  const output = await runDebian("strace", ["-o", "/dev/null", "true"]);
  return output.code === 0;
}

// A kill leaves the page cache as it was, so only the order of the calls shows what a power cut would leave.
test("data is synced before its name, the name before its record, the record before the word", async (t) => {
  if (!(await mayTrace())) return t.skip("strace may not trace here");
  const root = await mkdtemp(join(tmpdir(), "sync-order-"));
  t.after(() => rm(root, { recursive: true }));
  const trace = join(root, "trace");
  const args = ["-f", "-y", "-s", "4096", "-e", calls, "-o", trace];
  const traced = [...args, process.execPath, program, root, "1", "2"];
  const { code, stderr } = await runDebian("strace", traced);
  assert.equal(code, 0, stderr);
  const lines = (await readFile(trace, "utf8")).split("\n");
  const hex = digestHex(digestOf(layersOf(1)[0] ?? ""));
  const blob = lines.findIndex((line) => line.includes("rename") && line.includes(`sha256/${hex}`));
  assert.ok(blob > 0, "the blob was given its name");
  const ingest = /"([^"]*)\/data"/.exec(lines[blob] ?? "")?.[1] ?? "";
  const at = (call: string, path: string, from: number): number => {
    const found = lines.findIndex((l, i) => i > from && l.includes(call) && l.includes(path));
    assert.ok(found > from, `${call} of ${path} after line ${from}`);
    return found;
  };
  const dataSynced = at("fdatasync(", `${ingest}/data>`, -1);
  assert.ok(dataSynced < blob, "the data was synced before the blob had its name");
  const directorySynced = at("fsync(", "/blobs/sha256>", blob);
  const recordSynced = at("fdatasync(", "meta.sqlite-wal>", directorySynced);
  const word = at("write(1", '\\"image\\"', recordSynced);
  // Nothing was written into the log between the last sync and the word.
  const lastSync = lines.findLastIndex((l, i) => i < word && /fdatasync.*wal/.test(l));
  const lastWrite = lines.findLastIndex((l, i) => i < word && /pwrite64\(.*wal/.test(l));
  assert.ok(lastWrite > directorySynced && lastWrite < lastSync);
});
