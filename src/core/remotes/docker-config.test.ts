import assert from "node:assert/strict";
import { chmod, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { relative } from "node:path";
import { test } from "node:test";
import { firstOf, staticCredentials } from "#core/remotes/credentials.ts";
import { dockerConfigCredentials } from "#core/remotes/docker-config.ts";
import type { ProgramRequest, ProgramResult } from "#core/runtime/program.ts";
import { Context } from "#pkg/context.ts";

const ctx = Context.background();
const base64 = (text: string): string => Buffer.from(text).toString("base64");

/** A directory with `config.json` and programs that only have to be there. */
async function config(document: unknown, helpers: readonly string[] = []) {
  const dir = await mkdtempDisposable(`${tmpdir()}/docker-config-`);
  const file = `${dir.path}/config.json`;
  await writeFile(file, typeof document === "string" ? document : JSON.stringify(document));
  for (const helper of helpers) {
    await writeFile(`${dir.path}/docker-credential-${helper}`, "");
    await chmod(`${dir.path}/docker-credential-${helper}`, 0o755);
  }
  return { file, path: dir.path, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() };
}

function answering(result: Partial<Record<"failure" | "stdout", string>>) {
  const requests: ProgramRequest[] = [];
  const run = (_ctx: Context, request: ProgramRequest): Promise<ProgramResult> => {
    requests.push(request);
    const { failure = "", stdout = "" } = result;
    const exitCode = failure === "" ? 0 : 1;
    const bytes = { stdout: Buffer.from(stdout), stderr: new Uint8Array() };
    return Promise.resolve({ failure, exitCode, ...bytes });
  };
  return { requests, programs: { run } };
}

test("the file's own credentials, by any name of the host", async () => {
  await using dir = await config({
    auths: {
      "https://index.docker.io/v1/": { auth: base64("hub:p:w") },
      "reg.example:5000": { username: "u", password: "p" },
      "https://old.example/v2/": { identitytoken: "idt" },
      "token.example": { registrytoken: "rt" },
      "empty.example": {},
    },
  });
  const source = dockerConfigCredentials({ file: dir.file });
  const hub = { username: "hub", secret: "p:w" };
  assert.deepEqual(await source.get(ctx, "registry-1.docker.io"), hub);
  assert.deepEqual(await source.get(ctx, "docker.io"), hub);
  assert.deepEqual(await source.get(ctx, "reg.example:5000"), { username: "u", secret: "p" });
  assert.deepEqual(await source.get(ctx, "old.example"), { username: "", secret: "idt" });
  assert.equal((await source.get(ctx, "token.example"))?.header, "Bearer rt");
  for (const host of ["empty.example", "reg.example", "other.example", "example"]) {
    assert.equal(await source.get(ctx, host), undefined, host);
  }
  assert.equal(await source.describe(ctx, "old.example"), dir.file);
  assert.equal(await source.describe(ctx, "other.example"), undefined);
  const none = dockerConfigCredentials({ file: `${dir.path}/absent.json` });
  assert.equal(await none.get(ctx, "docker.io"), undefined);
});

test("what is malformed is named and not quoted", async () => {
  for (const document of [
    '{"auths": {"h": {"auth": "s3cret"',
    { auths: { h: { auth: 7, password: "s3cret" } } },
    { auths: { h: { auth: base64("s3cret") } } },
  ]) {
    await using dir = await config(document);
    await assert.rejects(dockerConfigCredentials({ file: dir.file }).get(ctx, "h"), (error) => {
      assert.ok(error instanceof Error && error.message.includes(dir.file));
      assert.ok(!error.message.includes("s3cret") && !error.message.includes(base64("s3cret")));
      return true;
    });
  }
});

test("a helper of the host comes before the general one, both before the file", async () => {
  await using dir = await config(
    {
      auths: { "a.example": { auth: base64("file:x") } },
      credHelpers: { "b.example": "own", "docker.io": "own" },
      credsStore: "store",
    },
    ["own", "store"],
  );
  const known = answering({ stdout: '{"ServerURL":"","Username":"u","Secret":"s"}' });
  const env = { PATH: `/nowhere:${dir.path}` };
  const source = dockerConfigCredentials({ file: dir.file, helpers: { ...known, env } });
  assert.deepEqual(await source.get(ctx, "b.example"), { username: "u", secret: "s" });
  assert.deepEqual(await source.get(ctx, "a.example"), { username: "u", secret: "s" });
  await source.get(ctx, "registry-1.docker.io");
  assert.deepEqual(
    known.requests.map(({ path, args, stdin }) => [
      path.slice(dir.path.length),
      ...args,
      Buffer.from(stdin).toString(),
    ]),
    [
      ["/docker-credential-own", "get", "b.example\n"],
      ["/docker-credential-store", "get", "a.example\n"],
      ["/docker-credential-own", "get", "https://index.docker.io/v1/\n"],
    ],
  );
  const words = `credential helper "own" of ${dir.file}`;
  assert.equal(await source.describe(ctx, "b.example"), words);
  const unknown = answering({
    failure: "exit status 1",
    stdout: "credentials not found in native keychain\n",
  });
  const fallback = dockerConfigCredentials({ file: dir.file, helpers: { ...unknown, env } });
  assert.deepEqual(await fallback.get(ctx, "a.example"), { username: "file", secret: "x" });
  assert.equal(await fallback.get(ctx, "b.example"), undefined);
});

test("a helper may answer with an identity token, fail, or not be there", async () => {
  await using dir = await config({ credsStore: "x", credHelpers: { "../sh": "../../bin/sh" } }, [
    "x",
  ]);
  const get = (result: Parameters<typeof answering>[0], path = dir.path, host = "h") => {
    const { programs } = answering(result);
    const helpers = { programs, env: { PATH: path } };
    return dockerConfigCredentials({ file: dir.file, helpers }).get(ctx, host);
  };
  const token = await get({ stdout: '{"Username":"<token>","Secret":"t"}' });
  assert.deepEqual(token, { username: "", secret: "t" });
  await assert.rejects(get({ failure: "exit status 2", stdout: "locked\n" }), {
    message: "docker-credential-x: exit status 2: locked",
  });
  await assert.rejects(get({ stdout: '{"Secret":"s3cret"}' }), {
    message: "docker-credential-x: the answer is no credentials",
  });
  await assert.rejects(get({}, "/nowhere"), { message: /"docker-credential-x" not in PATH$/ });
  // Whatever lies where the daemon was started is not to be run.
  await assert.rejects(get({}, relative(".", dir.path)), { message: /not in PATH$/ });
  await assert.rejects(get({}, dir.path, ".."), { message: /not in PATH$/ });
});

test("static credentials are for one host, and the first source that knows it decides", async () => {
  const one = staticCredentials("docker.io", { username: "a", secret: "1" }, "--user");
  const two = staticCredentials("Reg.example", { username: "b", secret: "2" }, "file");
  const source = firstOf([one, two]);
  assert.equal((await source.get(ctx, "registry-1.docker.io"))?.username, "a");
  assert.equal((await source.get(ctx, "reg.example"))?.username, "b");
  assert.equal(await source.get(ctx, "evil.example"), undefined);
  assert.equal(await source.describe(ctx, "reg.example"), "file");
  assert.equal(await source.describe(ctx, "evil.example"), undefined);
});
