import assert from "node:assert/strict";
import { closeSync, constants, mkdtempDisposableSync, openSync, readSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { wrap } from "#pkg/errors.ts";
import { formatJson, formatTerminal, formatText, type LogEntry } from "#pkg/log-format.ts";
import { descriptorWriter, logFormatter, LogWriter, parseLogLevel } from "#pkg/log-writer.ts";

const entry = (message: string, fields: LogEntry["fields"] = {}): LogEntry => ({
  time: 1_700_000_000_123_456_789n,
  level: "info",
  message,
  fields,
});

test("text is logrus': time, level and message first, the fields sorted, quoted where needed", () => {
  const line = formatText(
    entry("loading plugin", { type: "io.containerd.event.v1", id: "a b", n: 5, on: true, big: 7n }),
  );
  assert.match(
    line,
    new RegExp(
      '^time="2023-11-14T[0-9]{2}:[0-9]{2}:[0-9]{2}[.]123456789(?:Z|[+-][0-9]{2}:[0-9]{2})" ' +
        'level=info msg="loading plugin" big=7 id="a b" n=5 on=true type=io[.]containerd[.]event[.]v1$',
    ),
  );
  assert.match(formatText(entry("x", { empty: "", level: "y" })), / msg=x empty= fields\.level=y$/);
});

test("a value can neither break a line nor colour it", () => {
  const hostile = 'a"\n\x1b[31m\\\t\x07é牛\u202e\u{e0001}';
  assert.match(
    formatText(entry("m", { v: hostile })),
    / v="a\\"\\n\\x1b\[31m\\\\\\t\\aé牛\\u202e\\U000e0001"$/,
  );
  assert.equal(formatText(entry(hostile)).split("\n").length, 1);
});

test("an error is printed with its causes, each once", () => {
  const cause = new Error("open /x", { cause: new Error("ENOENT") });
  const error = new Error("start", { cause: wrap("read config", cause) });
  const text = 'error="start: read config: open /x: ENOENT"';
  assert.ok(formatText(entry("m", { error })).endsWith(text));
  assert.ok(formatText(entry("m", { error: new TypeError("") })).endsWith("error=TypeError"));
  const both = new AggregateError([new Error("a"), new Error("b")], "close");
  assert.ok(formatText(entry("m", { error: both })).endsWith('error="close [a; b]"'));
  const loop = new Error("loop");
  loop.cause = loop;
  assert.ok(formatText(entry("m", { error: loop })).endsWith("error=loop"));
});

test("JSON is logrus': sorted keys on one line", () => {
  const parsed: unknown = JSON.parse(
    formatJson(entry("hi", { error: new Error("no"), n: 5, big: 2n ** 60n, o: { b: 1n } })),
  );
  const { time, ...rest } = parsed as Record<string, unknown>; // -- an object, made just above
  assert.match(String(time), /^2023-11-14T/);
  assert.deepEqual(rest, {
    big: "1152921504606846976",
    error: "no",
    level: "info",
    msg: "hi",
    n: 5,
    o: { b: "1" },
  });
  assert.deepEqual(Object.keys(parsed as object), [
    "big",
    "error",
    "level",
    "msg",
    "n",
    "o",
    "time",
  ]);
});

test("a terminal gets a coloured level", () => {
  const line = formatTerminal(entry("hi", { k: "v w" }));
  assert.ok(line.startsWith("\x1b[36mINFO\x1b[0m[2023-11-14T"));
  assert.ok(line.endsWith(' \x1b[36mk\x1b[0m="v w"'));
});

test("a writer drops what is below its level, and follows a change", () => {
  const lines: string[] = [];
  const write = (line: string): void => void lines.push(line);
  const log = new LogWriter({ level: "info", format: ({ level }) => level, write });
  const child = log.root.with({ a: 1 });
  const all = (): void => {
    for (const level of ["trace", "debug", "info", "warn", "error"] as const) child[level]("m");
  };
  all();
  assert.deepEqual(lines.splice(0), ["info\n", "warning\n", "error\n"]);
  log.configure({ level: "trace" });
  all();
  assert.equal(lines.splice(0).length, 5);
  log.configure({ level: "panic" });
  all();
  assert.equal(lines.length, 0);
});

test("with() adds fields, the call's own win", () => {
  const seen: LogEntry["fields"][] = [];
  const log = new LogWriter({
    level: "info",
    format: ({ fields }) => `${seen.push(fields)}`,
    write() {},
  });
  log.root.with({ a: 1 }).with({ b: 2 }).info("m", { a: 3 });
  assert.deepEqual(seen, [{ a: 3, b: 2 }]);
});

test("levels and formats have logrus' names", () => {
  assert.equal(parseLogLevel("WARN"), "warning");
  assert.equal(parseLogLevel("trace"), "trace");
  assert.throws(() => parseLogLevel("loud"), { message: 'not a valid logrus Level: "loud"' });
  assert.equal(logFormatter("", { terminal: false }), formatText);
  assert.equal(logFormatter("text", { terminal: true }), formatTerminal);
  assert.equal(logFormatter("json", { terminal: true }), formatJson);
  assert.throws(() => logFormatter("xml", { terminal: false }), {
    message: "unknown log format: xml",
  });
});

test("a full pipe costs lines, which are counted, and not the process", () => {
  using dir = mkdtempDisposableSync(`${tmpdir()}/log-`);
  const path = `${dir.path}/fifo`;
  execFileSync("mkfifo", [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  try {
    const write = descriptorWriter(fd);
    const line = `${"x".repeat(4095)}\n`;
    for (let i = 0; i < 18; i++) write(line);
    const room = Buffer.alloc(1 << 20);
    assert.equal(readSync(fd, room), 65_536);
    write("after\n");
    assert.equal(room.toString("utf8", 0, readSync(fd, room)), "(2 log lines lost)\nafter\n");
  } finally {
    closeSync(fd);
  }
  assert.doesNotThrow(() => descriptorWriter(9999)("nobody reads\n"));
});
