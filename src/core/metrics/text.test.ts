import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Counter, SecondsHistogram } from "./instruments.ts";
import { formatMetrics, formatValue } from "./text.ts";

suite("metrics text format", () => {
  for (const [value, text] of [
    [0, "0"],
    [1, "1"],
    [-2.5, "-2.5"],
    [598_016, "598016"],
    [1e6, "1e+06"],
    [13_171_001, "1.3171001e+07"],
    [1_795_263_100.23, "1.79526310023e+09"],
    [2 ** 64, "1.8446744073709552e+19"],
    [0.005, "0.005"],
    [0.0001, "0.0001"],
    [0.00001234, "1.234e-05"],
    [Number.NaN, "NaN"],
    [Number.POSITIVE_INFINITY, "+Inf"],
    [Number.NEGATIVE_INFINITY, "-Inf"],
  ] as const) {
    test(`formatValue(${value}) is ${text}`, () => assert.equal(formatValue(value), text));
  }

  test("formatMetrics() sorts families, samples and labels, and leaves out empty families", () => {
    const text = formatMetrics([
      { name: "b_total", help: "b", type: "counter", samples: [{ labels: {}, value: 2 }] },
      { name: "none", help: "", type: "gauge", samples: [] },
      {
        name: "a",
        help: "a",
        type: "gauge",
        samples: [
          { labels: { z: "2", a: "1" }, value: 1 },
          { labels: { z: "1", a: "1" }, value: 3 },
        ],
      },
    ]);
    assert.equal(
      text,
      [
        "# HELP a a",
        "# TYPE a gauge",
        'a{a="1",z="1"} 3',
        'a{a="1",z="2"} 1',
        "# HELP b_total b",
        "# TYPE b_total counter",
        "b_total 2",
        "",
      ].join("\n"),
    );
  });

  test("formatMetrics() lets no value end its quotes or its line", () => {
    const labels = { id: 'a"} 9\nfake 1 \\' };
    const samples = [{ labels, value: 1 }];
    const text = formatMetrics([{ name: "m", help: "x\ny\\", type: "gauge", samples }]);
    const lines = ["# HELP m x\\ny\\\\", "# TYPE m gauge", 'm{id="a\\"} 9\\nfake 1 \\\\"} 1', ""];
    assert.equal(text, lines.join("\n"));
  });

  test("formatMetrics() refuses a name that is none", () => {
    const samples = [{ labels: {}, value: 1 }];
    assert.throws(() => formatMetrics([{ name: "a b", help: "", type: "gauge", samples }]));
  });

  test("a counter shows what it was prepared for, and sums by labels", () => {
    const counter = new Counter({ name: "calls_total", help: "calls" });
    counter.add({ code: "OK" }, 0);
    counter.add({ code: "NotFound" });
    counter.add({ code: "NotFound" });
    const lines = formatMetrics(counter.collect()).split("\n").slice(2, -1);
    assert.deepEqual(lines, ['calls_total{code="NotFound"} 2', 'calls_total{code="OK"} 0']);
  });

  test("a histogram's buckets hold all values up to their bound", () => {
    const histogram = new SecondsHistogram({ name: "t_seconds", help: "t" });
    for (const seconds of [0.005, 0.02, 3, 100]) histogram.observe(seconds, { m: "x" });
    const lines = formatMetrics(histogram.collect()).split("\n").slice(2, -1);
    assert.equal(lines[0], 't_seconds_bucket{m="x",le="0.005"} 1');
    assert.equal(lines[2], 't_seconds_bucket{m="x",le="0.025"} 2');
    assert.equal(lines[9], 't_seconds_bucket{m="x",le="5"} 3');
    assert.deepEqual(lines.slice(-3), [
      't_seconds_bucket{m="x",le="+Inf"} 4',
      't_seconds_sum{m="x"} 103.025',
      't_seconds_count{m="x"} 4',
    ]);
  });
});
