import assert from "node:assert/strict";
import { test } from "node:test";
import { inAnyOrder, normalise, printedSizes } from "./normalise.ts";

const esc = String.fromCodePoint(27);

void test("normalise() keeps what two runs share and names the rest", () => {
  const replacements = new Map([
    ["sha256:aa", "{busybox:config}"],
    ["/tmp/ctrd-x", "DIR"],
  ]);
  const cases: readonly (readonly [string, string])[] = [
    ["c1      1234    RUNNING    \n", "c1 PID RUNNING\n"],
    ['{"pid":77,"container_id":"c1"}', '{"pid":PID,"container_id":"c1"}'],
    ["sha256:aa at /tmp/ctrd-x/root", "{busybox:config} at DIR/root"],
    ["sha256:bb stays", "sha256:bb stays"],
    ['"CreatedAt": "2026-11-21T10:27:00.123456789Z",', '"CreatedAt": "TIME",'],
    ["2026-11-21 10:27:00.123456789 +0000 UTC ns", "TIME ns"],
    ["a 1kB Less than a second x=1\n", "a 1kB AGE x=1\n"],
    ["x b=2,a=1,c=3", "x a=1,b=2,c=3"],
    ['{"options":["b=1","a"],"x":["b","a"]}', '{"options":["a","b=1"],"x":["b","a"]}'],
    ["done: 5.49ms\t\n", "done: DURATION\n"],
    ["exit code 7 of 5 tasks", "exit code 7 of 5 tasks"],
    ["    indented:   stays", "    indented: stays"],
    ["a\r\nb", "a\nb"],
  ];
  for (const [text, expected] of cases) assert.equal(normalise(text, replacements), expected);
});

void test("normalise() keeps the end of a progress that was painted twice", () => {
  const bar = `|${esc}[32m++--${esc}[0m|`;
  const picture = (status: string, sizes: string): string =>
    `b/x:1:   resolved ${bar} \nlayer-2: ${status}  ${bar} ${sizes}\nelapsed: 0.${sizes.length} s total: 1 B\n`;
  const early = picture("downloading", "1.0 B/101.0 B");
  const text = `${early}${esc}[3A${picture("done", "")}unpacking x...\n`;
  assert.equal(
    normalise(text, new Map()),
    "b/x:1: resolved\nlayer-2: done\nelapsed: DURATION total: SIZE (SPEED)\nunpacking x...\n",
  );
});

void test("inAnyOrder() leaves the head of the table where it is", () => {
  assert.equal(inAnyOrder("NAME ID\nb\na\n"), "NAME ID\na\nb\n");
  assert.equal(inAnyOrder("c\nb\na\n"), "a\nb\nc\n");
});

void test("printedSizes() prints as Go's units do", () => {
  assert.deepEqual(printedSizes(559), ["559B", "559.0 B"]);
  assert.deepEqual(printedSizes(1_052_999), ["1.053MB", "1.0 MiB"]);
});
