import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  anyPlatform,
  orderedPlatforms,
  platformMatcher,
  strictPlatformMatcher,
  unorderedPlatforms,
} from "#pkg/platform-match.ts";
import {
  formatPlatform,
  formatPlatformAll,
  hostPlatform,
  normalizePlatform,
  parsePlatform,
} from "#pkg/platform.ts";

const amd64 = { os: "linux", architecture: "amd64" };
const words = (text: string): string[] => text.split(" ");

test("platforms are parsed, aliases and all", () => {
  const cases: Readonly<Record<string, string>> = {
    "linux/arm": "linux/arm",
    "linux/arm/v6": "linux/arm/v6",
    "linux/arm/v7": "linux/arm/v7",
    "linux/arm64": "linux/arm64",
    "linux/arm64/v8": "linux/arm64/v8",
    "linux/arm64/8": "linux/arm64/v8",
    arm: "linux/arm",
    armel: "linux/arm/v6",
    armhf: "linux/arm",
    Aarch64: "linux/arm64",
    x86_64: "linux/amd64",
    "Linux/x86_64": "linux/amd64",
    "linux/amd64/v1": "linux/amd64",
    "linux/amd64/v3": "linux/amd64/v3",
    i386: "linux/386",
    linux: "linux/amd64",
    s390x: "linux/s390x",
    macOS: "darwin/amd64",
    "windows()": "windows/amd64",
    "windows(10.0.17763)": "windows(10.0.17763)/amd64",
    "windows(10.0.17763)/arm64": "windows(10.0.17763)/arm64",
    "unheard-of/thing": "unheard-of/thing",
  };
  for (const [text, formatted] of Object.entries(cases)) {
    assert.equal(formatPlatformAll(parsePlatform(text, amd64)), formatted, text);
    assert.equal(formatPlatformAll(parsePlatform(formatted, amd64)), formatted, text);
  }
  assert.equal(formatPlatform(parsePlatform("windows(1.2.3)/amd64")), "windows/amd64");
  assert.equal(formatPlatform({ os: "", architecture: "amd64" }), "unknown");
  const arm = { os: "linux", architecture: "arm", variant: "v6" };
  assert.equal(formatPlatform(parsePlatform("linux", arm)), "linux/arm/v6");
});

test("what is no platform is refused naming it", () => {
  const cases: Readonly<Record<string, RegExp>> = {
    "linux/*": /^"linux\/\*": wildcards not yet supported: invalid argument$/,
    "": /^"" is an invalid OS component of "": /,
    wintel: /^"wintel": unknown operating system or architecture: /,
    "linux/&arm": /^"&arm" is an invalid component of "linux\/&arm": /,
    "linux//arm": /^"" is an invalid component/,
    "linux/arm/foo/bar": /cannot parse platform specifier: invalid argument$/,
    "a/b/c/d/e/f/g": /cannot parse platform specifier/,
    "windows(1/2)": /invalid OS component/,
  };
  for (const [text, message] of Object.entries(cases)) {
    assert.throws(() => parsePlatform(text), { code: "invalid-argument", message }, text);
  }
});

/** The table of upstream's `Only`, re-expressed: what runs, best first, and what does not. */
const runs: Readonly<Record<string, { on: string; not: string }>> = {
  "linux/amd64": {
    on: "linux/amd64 linux/386",
    not: "linux/amd64/v2 linux/arm/v7 linux/arm64 windows/amd64",
  },
  "linux/amd64/v2": { on: "linux/amd64/v2 linux/amd64 linux/386", not: "linux/amd64/v3" },
  "linux/amd64/v4": {
    on: "linux/amd64/v4 linux/amd64/v3 linux/amd64/v2 linux/amd64/v1 linux/386",
    not: "linux/amd64/v5",
  },
  "linux/386": { on: "linux/386", not: "linux/amd64 linux/arm" },
  "linux/arm/v8": {
    on: "linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5",
    not: "linux/arm/v4 linux/arm64",
  },
  "linux/arm": { on: "linux/arm linux/arm/v6 linux/arm/v5", not: "linux/arm/v8 linux/arm64" },
  "linux/arm/v5": { on: "linux/arm/v5", not: "linux/arm linux/arm/v4 linux/arm/v6" },
  "linux/arm/v4": { on: "linux/arm/v4", not: "linux/arm/v5 linux/arm" },
  "linux/arm64": {
    on: "linux/arm64 linux/arm/v8 linux/arm linux/arm/v6 linux/arm/v5",
    not: "linux/arm64/v8.1 linux/arm64/v9 linux/arm/v4 linux/amd64",
  },
  "linux/arm64/v8.1": {
    on: "linux/arm64/v8.1 linux/arm64/v8 linux/arm/v8 linux/arm/v7",
    not: "linux/arm64/v8.2 linux/arm64/v9",
  },
  "linux/arm64/v9": {
    on: "linux/arm64/v9.0 linux/arm64/v8.5 linux/arm64/v8.1 linux/arm64 linux/arm/v8",
    not: "linux/arm64/v8.6 linux/arm64/v9.1",
  },
  "linux/arm64/v9.6": {
    on: "linux/arm64/v9.6 linux/arm64/v9.1 linux/arm64/v9 linux/arm64/v8.9 linux/arm64 linux/arm",
    not: "linux/arm64/v8.10 linux/arm64/v9.7 linux/amd64",
  },
  "linux/arm64/v8.10": { on: "linux/arm64/v8.10", not: "linux/arm64 linux/arm64/v8.1 linux/arm" },
  "linux/riscv64": { on: "linux/riscv64", not: "linux/amd64" },
  "windows/amd64": { on: "windows/amd64 windows(10.0.17763)/amd64", not: "windows/arm" },
};

test("a platform runs its own images first, then those of lower variants", () => {
  for (const [platform, { on, not }] of Object.entries(runs)) {
    const matcher = platformMatcher(parsePlatform(platform));
    const better = words(on).map((text) => parsePlatform(text));
    for (const one of better)
      assert.ok(matcher.matches(one), `${platform}: ${formatPlatform(one)}`);
    for (const one of words(not))
      assert.ok(!matcher.matches(parsePlatform(one)), `${platform}: ${one}`);
    if (platform.startsWith("windows")) continue; // -- every version is as good there
    assert.deepEqual(better.toReversed().toSorted(matcher.compare), better, platform);
  }
});

test("strict, ordered, unordered and any", () => {
  const strict = strictPlatformMatcher(parsePlatform("linux/amd64"));
  assert.ok(strict.matches(parsePlatform("linux/x86_64")));
  assert.ok(!strict.matches(parsePlatform("linux/386")));
  const both = [parsePlatform("linux/s390x"), parsePlatform("linux/amd64")];
  const s390xFirst = both.toReversed().toSorted(orderedPlatforms(both).compare);
  assert.deepEqual(s390xFirst, both);
  assert.deepEqual(both.toReversed().toSorted(unorderedPlatforms(both).compare), both.toReversed());
  const arm = parsePlatform("linux/arm");
  assert.deepEqual([arm, ...both].toSorted(unorderedPlatforms(both).compare), [...both, arm]);
  assert.ok(anyPlatform.matches(arm));
  assert.equal(anyPlatform.compare(arm, both[0] ?? arm), 0);
});

test("windows: stable releases run their predecessor's containers, older hosts only their own", () => {
  const on = (host: string, container: string): boolean =>
    strictPlatformMatcher(parsePlatform(`windows(${host})/amd64`)).matches(
      parsePlatform(`windows(${container})/amd64`),
    );
  assert.ok(on("10.0.17763", "10.0.17763.1"));
  assert.ok(!on("10.0.17763", "10.0.20348"));
  assert.ok(on("10.0.20348", "10.0.20348"));
  assert.ok(on("10.0.26100", "10.0.20348"));
  assert.ok(on("10.0.26200", "10.0.26100"));
  assert.ok(!on("10.0.26200", "10.0.20348"));
  assert.ok(!on("10.0.20348", "10.0.26100"));
  assert.ok(!on("11.0.20348", "10.0.20348"));
  assert.ok(on("10.0.20348", ""));
  assert.ok(on("", "10.0.20348"));
  assert.ok(!on("10.0.20348", "nonsense"));
});

test("this host has a platform of known names", () => {
  const host = hostPlatform();
  assert.equal(formatPlatform(parsePlatform(formatPlatform(host))), formatPlatform(host));
  assert.ok(platformMatcher().matches(host));
});

test("property: parsing what was formatted, and normalising twice, changes nothing", () => {
  const part = fc.stringMatching(/^[A-Za-z0-9_.-]{1,8}$/);
  const os = fc.stringMatching(/^[A-Za-z0-9_-]{1,8}$/);
  fc.assert(
    fc.property(os, part, fc.option(part), (o, architecture, variant) => {
      const text = [o, architecture, ...(variant === null ? [] : [variant])].join("/");
      const platform = parsePlatform(text);
      const again = parsePlatform(formatPlatform(platform));
      assert.deepEqual(normalizePlatform(again), normalizePlatform(platform));
      assert.deepEqual(normalizePlatform(normalizePlatform(again)), normalizePlatform(again));
      assert.ok(platformMatcher(platform).matches(platform));
      assert.ok(strictPlatformMatcher(platform).matches(again));
    }),
  );
});
