import assert from "node:assert/strict";
import { mkdirSync, mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { suite, test } from "node:test";
import {
  defaultApparmorProfile,
  hostHasApparmor,
  isProfileLoaded,
  readApparmorHost,
} from "./apparmor.ts";

function host(files: Readonly<Record<string, string>>) {
  const dir = mkdtempDisposableSync(join(tmpdir(), "host-"));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir.path, path)), { recursive: true });
    writeFileSync(join(dir.path, path), text);
  }
  return dir;
}

suite("AppArmor", () => {
  test("a host has it when the kernel enforces it and there is a parser", async () => {
    const enabled = "sys/module/apparmor/parameters/enabled";
    const profiles = "sys/kernel/security/apparmor/profiles";
    const text = "cri-containerd.apparmor.d (enforce)\nrunc (unconfined)\n";
    using yes = host({ [enabled]: "Y\n", [profiles]: text, "sbin/apparmor_parser": "" });
    assert.equal(await hostHasApparmor(yes.path), true);
    assert.equal(await isProfileLoaded("cri-containerd.apparmor.d", yes.path), true);
    assert.equal(await isProfileLoaded("cri", yes.path), false);
    using off = host({ [enabled]: "N\n", [profiles]: text, "sbin/apparmor_parser": "" });
    assert.equal(await hostHasApparmor(off.path), false);
    using bare = host({ [enabled]: "Y\n", [profiles]: text });
    assert.equal(await hostHasApparmor(bare.path), false);
    assert.equal(await hostHasApparmor("/nonexistent"), false);
    assert.equal(await isProfileLoaded("x", "/nonexistent"), false);
  });

  test("the default profile includes what is there, and names who may send signals", async () => {
    using with3 = host({
      "etc/apparmor.d/abi/3.0": "",
      "etc/apparmor.d/tunables/global": "",
      "etc/apparmor.d/abstractions/base": "",
      "proc/self/attr/current": "containerd (enforce)\n",
    });
    const text = defaultApparmorProfile("p1", await readApparmorHost(with3.path));
    assert.match(text, /^abi <abi\/3\.0>,\n/);
    assert.match(text, /#include <tunables\/global>/);
    assert.match(text, /profile p1 flags=\(attach_disconnected,mediate_deleted\) \{/);
    assert.match(text, /signal \(receive\) peer=containerd,/);
    assert.match(text, /deny mount,/);
    assert.match(text, /deny \/sys\/devices\/virtual\/powercap\/\*\* rwklx,/);
    const bare = defaultApparmorProfile("p1", await readApparmorHost("/nonexistent"));
    assert.match(bare, /@\{PROC\}=\/proc\//);
    assert.match(bare, /peer=unconfined/);
    assert.doesNotMatch(bare, /#include/);
  });
});
