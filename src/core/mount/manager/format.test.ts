import assert from "node:assert/strict";
import { test } from "node:test";
import type { ActiveMount } from "#core/mount/manager.ts";
import { format } from "#core/mount/manager/format.ts";
import { Context } from "#pkg/context.ts";

const before = [0, 1, 2].map(
  (n): ActiveMount => ({
    type: "bind",
    source: `/source/${n}`,
    target: `${n}`,
    options: [],
    mountPoint: `/mp/${n}`,
    mountedAt: 0n,
    data: {},
  }),
);

async function formatted(text: string): Promise<string> {
  const mount = { type: "bind", source: "", target: "", options: [text] };
  return (await format(Context.background(), mount, before)).options.join();
}

test("format fills in mounts before", async () => {
  const cases = {
    "{{ mount 0 }}": "/mp/0",
    "{{source 1}}:{{ target 2 }}": "/source/1:2",
    "lowerdir={{ overlay 0 2 }}": "lowerdir=/mp/0:/mp/1:/mp/2",
    "lowerdir={{ overlay 2 1 }},x": "lowerdir=/mp/2:/mp/1,x",
    "{{ overlay 1 1 }}": "/mp/1",
    "upperdir={{mount 2}}/upper": "upperdir=/mp/2/upper",
    "{ plain }": "{ plain }",
  };
  for (const [text, expected] of Object.entries(cases)) {
    assert.equal(await formatted(text), expected, text);
  }
  const whole = { type: "bind", source: "{{ mount 1 }}", target: "{{ target 0 }}", options: [] };
  const { source, target } = await format(Context.background(), whole, before);
  assert.deepEqual([source, target], ["/mp/1", "0"]);
});

test("format refuses what it cannot fill in", async () => {
  const bad = [
    "{{ mount 3 }}",
    "{{ mount -1 }}",
    "{{ overlay 0 3 }}",
    "{{ overlay 1 }}",
    "{{ mount }}",
    "{{ secret 0 }}",
    "{{ mount 0",
    '{{ printf "%s" 1 }}',
  ];
  for (const text of bad) {
    await assert.rejects(formatted(text), { code: "invalid-argument" }, text);
  }
});

test("format bounds what it fills into one mount", async () => {
  const text = (count: number): string => "{{ source 0 }}".repeat(count);
  // Nine bytes each.
  const most = Math.floor((1 << 20) / 9);
  assert.equal((await formatted(text(most))).length, most * 9);
  const message = /expands to more than 1048576 bytes/;
  await assert.rejects(formatted(text(most + 1)), { code: "invalid-argument", message });
  const halves = [text(most / 2 + 1), text(most / 2 + 1)];
  const mount = { type: "bind", source: "", target: "", options: halves };
  await assert.rejects(format(Context.background(), mount, before), { message });
});
