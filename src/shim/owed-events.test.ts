import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { codeOf } from "#pkg/errors.ts";
import { type OwedEvent, OwedEvents } from "./owed-events.ts";
import { parseTaskRecord } from "./task-record.ts";

/** Of one supervisor; what it publishes is settled by hand. */
class Told {
  readonly published: { readonly event: OwedEvent; readonly settle: () => void }[] = [];
  settled = 0;
  readonly events = new OwedEvents({
    publish: (event, settle = () => {}) => void this.published.push({ event, settle }),
    onSettled: () => {
      this.settled += 1;
    },
  });

  get topics(): string[] {
    return this.published.map(({ event }) => event.topic);
  }
}

const started = { topic: "/tasks/start", containerId: "c1", pid: 7 } as const;
const paused = { topic: "/tasks/paused", containerId: "c1" } as const;

suite("owed events", () => {
  test("one is on record until it is settled, told or not", () => {
    const told = new Told();
    const first = told.events.owe(started);
    const second = told.events.owe(paused);
    assert.deepEqual(told.topics, []);
    for (const owed of [first, second]) told.events.tell(owed);
    assert.equal(told.events.records().length, 2);
    told.published[0]?.settle();
    assert.deepEqual(
      told.events.records().map(({ topic }) => topic),
      ["/tasks/paused"],
    );
    told.published[1]?.settle();
    assert.deepEqual(told.events.records(), []);
    assert.equal(told.settled, 2);
  });

  test("a successor tells what is on record, in its order, as it was", () => {
    const dead = new Told();
    const owed = [started, paused].map((event) => dead.events.owe(event));
    const record: unknown = JSON.parse(JSON.stringify(dead.events.records()));
    const successor = new Told();
    successor.events.takeOver(record as ReturnType<OwedEvents["records"]>); // -- just formatted
    const published = successor.published.map(({ event }) => event);
    assert.deepEqual(
      published.map(({ at, topic, event }) => [at, topic, event.typeUrl, [...event.value]]),
      owed.map(({ at, topic, event }) => [at, topic, event.typeUrl, [...event.value]]),
    );
    assert.deepEqual(successor.events.records(), dead.events.records());
  });

  test("an exit is told as of when it was seen, however often", () => {
    const exit = { pid: 7, status: 3, at: 17n };
    const told = new Told();
    for (let n = 0; n < 2; n++) {
      void told.events.tellUnrecorded({ topic: "/tasks/exit", containerId: "c1", id: "c1", exit });
    }
    const [first, second] = told.published.map(({ event }) => event);
    assert.equal(first?.at, 17n);
    assert.deepEqual(second, first);
  });

  test("what a successor finds out by itself is told and not recorded", async () => {
    const told = new Told();
    const settled = told.events.tellUnrecorded(paused);
    told.published[0]?.settle();
    await settled;
    assert.deepEqual(told.topics, ["/tasks/paused"]);
    assert.deepEqual(told.events.records(), []);
  });
});

suite("task.json", () => {
  const stdio = { stdin: "", stdout: "", stderr: "", terminal: false };
  const record = {
    version: 1,
    id: "c1",
    namespace: "ns",
    group: "ns",
    phase: "running",
    stdio,
    runtime: { path: "/runc", name: "runc", root: "/r", systemdCgroup: false },
    hasRootfs: true,
    hasOwnPidNamespace: true,
    execs: [],
  };

  test("of a supervisor that kept neither execs to be started nor events is understood", () => {
    const { added, owed } = parseTaskRecord(JSON.stringify(record));
    assert.deepEqual([added, owed], [undefined, undefined]);
  });

  test("with either of another form is refused", () => {
    const owed = { at: "1", topic: "/tasks/start", typeUrl: "t", value: "" };
    const good = { added: [{ id: "e1", stdio }], owed: [owed] };
    assert.equal(parseTaskRecord(JSON.stringify({ ...record, ...good })).added?.length, 1);
    const bad = [
      { added: {} },
      { added: [{ id: "e1" }] },
      { owed: [1] },
      { owed: [{ ...owed, at: "soon" }] },
      { owed: [{ ...owed, value: 1 }] },
    ];
    for (const fields of bad) {
      assert.throws(
        () => parseTaskRecord(JSON.stringify({ ...record, ...fields })),
        (error) => codeOf(error) === "data-loss",
        JSON.stringify(fields),
      );
    }
  });
});
