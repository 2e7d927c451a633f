import assert from "node:assert/strict";
import {
  mkdirSync,
  mkdtempDisposableSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { suite, test } from "node:test";
import { hasCode } from "#pkg/errors.ts";
import { linux } from "#pkg/sys/linux.ts";
import { defaultSpec } from "./default-spec.ts";
import { imageUser } from "./image-config.ts";
import { additionalGids, resolveGroups, resolveUser, withUser } from "./user.ts";
import { DirectoryRoot, type RootFiles, userFileMax } from "./user-files.ts";

const passwd =
  "# comment\nroot:x:0:0:root:/root:/bin/sh\n\ndaemon:x:1:1::/:\nweb:x:1000:2000:Web,,,:/home:/bin/sh\n" +
  "big:x:4294967296:0::/:\nbad:x:zero:0::/:\nneg:x:-1:0::/:\n";
const group =
  "root:x:0:\nbin:x:2:root,daemon\nwheel:x:10:root,web\nweb:x:2000:web\nhuge:x:2147483648:web2\n";

function files(given: { passwd?: string; group?: string }): RootFiles {
  return {
    read: async (path) => (path === "etc/passwd" ? given.passwd : given.group),
  };
}

const root = files({ passwd, group });

suite("resolveUser", () => {
  for (const [text, uid, gid] of [
    ["root", 0, 0],
    ["web", 1000, 2000],
    ["1000", 1000, 2000],
    ["77", 77, 0],
    ["5:6", 5, 6],
    ["web:wheel", 1000, 10],
    ["web:7", 1000, 7],
    ["3:bin", 3, 2],
    ["web:", 1000, 0],
    [":7", 0, 7],
    ["2147483647", 2147483647, 0],
  ] as const) {
    test(`resolveUser() finds ${text}`, async () => {
      assert.deepEqual(await resolveUser(root, text), { uid, gid });
    });
  }

  for (const text of ["2147483648", "4294967296", "-1", "99999999999999999999", "0:2147483648"]) {
    test(`CVE-2024-40635: resolveUser() refuses ${text}`, async () => {
      await assert.rejects(
        resolveUser(root, text),
        (error: Error) =>
          hasCode(error, "invalid-argument") &&
          error.message.includes(`invalid USER value "${text}"`) &&
          error.message.includes("out of range"),
      );
    });
  }

  for (const text of ["4294967296", "99999999999999999999", "0:4294967296"]) {
    test(`CVE-2026-46680: resolveUser() takes ${text} for no name that an image gives to root`, async () => {
      const forged = files({
        passwd: "4294967296:x:0:0::/:\n99999999999999999999:x:0:0::/:\n",
        group: "4294967296:x:0:\n",
      });
      await assert.rejects(
        resolveUser(forged, text),
        (error: Error) =>
          hasCode(error, "invalid-argument") && error.message.includes("out of range"),
      );
    });
  }

  for (const text of ["big", "bad", "neg", "web:huge"]) {
    test(`CVE-2024-40635: no file of the image makes a root of ${text}`, async () => {
      await assert.rejects(resolveUser(root, text), (error) => hasCode(error, "invalid-argument"));
    });
  }

  test("resolveUser() says who is not there, and what is no user", async () => {
    const nobody = files({});
    await assert.rejects(resolveUser(nobody, "web"), /no users found/);
    await assert.rejects(resolveUser(root, "0:none"), /no groups found/);
    await assert.rejects(resolveUser(root, "a:b:c"), /invalid USER value a:b:c/);
    assert.deepEqual(await resolveUser(nobody, "12"), { uid: 12, gid: 0 });
  });
});

suite("groups", () => {
  test("CVE-2023-25173: the groups of a user are those that list it, its own among them", async () => {
    assert.deepEqual(await additionalGids(root, "root"), [2, 10]);
    assert.deepEqual(await additionalGids(root, "1000"), [10]);
    assert.deepEqual(await additionalGids(root, "4242"), []);
    const spec = defaultSpec({ namespace: "n", id: "c" });
    const given = withUser({ uid: 1000, gid: 2000 }, [10])(spec);
    assert.deepEqual(given.process?.user?.additionalGids, [2000, 10]);
    assert.deepEqual(withUser({ uid: 1, gid: 1 })(spec).process?.user?.additionalGids, [1]);
    assert.deepEqual(
      withUser({ uid: 1, gid: 1 }, [2, 1])(spec).process?.user?.additionalGids,
      [2, 1],
    );
  });

  test("the user of an image, and root's groups where it names none", async () => {
    assert.deepEqual(await imageUser(root, { user: "web" }), [{ uid: 1000, gid: 2000 }, [10]]);
    assert.deepEqual(await imageUser(root, { user: "" }), [{ uid: 0, gid: 0 }, [2, 10]]);
  });

  test("resolveGroups() takes numbers and names", async () => {
    assert.deepEqual(await resolveGroups(root, ["wheel", "7", "4294967295"]), [10, 7, 4294967295]);
    await assert.rejects(resolveGroups(root, ["none"]), /unable to find group none/);
  });
});

suite("DirectoryRoot", () => {
  function makeRoot(): { path: string; [Symbol.dispose](): void; reader: DirectoryRoot } {
    const dir = mkdtempDisposableSync(join(tmpdir(), "root-"));
    const path = join(dir.path, "rootfs");
    mkdirSync(join(path, "etc"), { recursive: true });
    writeFileSync(join(dir.path, "outside"), "evil:x:0:0\n");
    return {
      path,
      [Symbol.dispose]: () => dir.remove(),
      reader: new DirectoryRoot(linux, path),
    };
  }

  function write(path: string, text: string): void {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }

  test("read() follows links within the root: absolute, relative, of directories", async () => {
    using at = makeRoot();
    write(join(at.path, "nix/store/passwd"), "a:x:1:1\n");
    symlinkSync("/nix/current/passwd", join(at.path, "etc/passwd"));
    symlinkSync("store", join(at.path, "nix/current"));
    symlinkSync("../../../../nix/store/passwd", join(at.path, "etc/group"));
    assert.equal(await at.reader.read("etc/passwd"), "a:x:1:1\n");
    assert.equal(await at.reader.read("etc/group"), "a:x:1:1\n");
  });

  test("read() never leaves the root", async () => {
    using at = makeRoot();
    symlinkSync("../../outside", join(at.path, "etc/passwd"));
    symlinkSync(join(dirname(at.path), "outside"), join(at.path, "etc/group"));
    assert.equal(await at.reader.read("etc/passwd"), undefined);
    assert.equal(await at.reader.read("etc/group"), undefined);
  });

  test("read() follows 40 links and not 41", async () => {
    using at = makeRoot();
    const chain = (name: string, links: number): void => {
      write(join(at.path, `${name}-0`), "x:x:1:1\n");
      for (let i = 1; i < links; i++)
        symlinkSync(`/${name}-${i - 1}`, join(at.path, `${name}-${i}`));
      symlinkSync(`/${name}-${links - 1}`, join(at.path, "etc", name));
    };
    chain("passwd", 40);
    chain("group", 41);
    assert.equal(await at.reader.read("etc/passwd"), "x:x:1:1\n");
    await assert.rejects(
      at.reader.read("etc/group"),
      /etc\/group: .*too many levels of symbolic links/,
    );
  });

  test("CVE-2026-47262: read() ends at its bound", async () => {
    using at = makeRoot();
    const path = join(at.path, "etc/passwd");
    write(path, "");
    truncateSync(path, userFileMax);
    assert.equal((await at.reader.read("etc/passwd"))?.length, userFileMax);
    truncateSync(path, userFileMax + 1);
    await assert.rejects(at.reader.read("etc/passwd"), /"etc\/passwd" exceeds 10485760 bytes/);
    truncateSync(path, 2 ** 40);
    await assert.rejects(at.reader.read("etc/passwd"), /exceeds/);
  });

  test("read() opens nothing but files", async () => {
    using at = makeRoot();
    linux.mkfifo(join(at.path, "etc/passwd"), 0o600);
    mkdirSync(join(at.path, "etc/group"));
    await assert.rejects(at.reader.read("etc/passwd"), /etc\/passwd is not a regular file/);
    await assert.rejects(at.reader.read("etc/group"), /etc\/group is not a regular file/);
  });
});
