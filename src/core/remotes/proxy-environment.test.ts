import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError } from "#pkg/errors.ts";
import { proxyFromEnvironment } from "#core/remotes/proxy-environment.ts";

function proxy(env: Record<string, string>, url: string): string | undefined {
  return proxyFromEnvironment(env)(new URL(url))?.href;
}

const both = { HTTP_PROXY: "p.example:3128", https_proxy: "https://u:p@s.example" };

test("each scheme has its proxy, in either case of the name", () => {
  assert.equal(proxy(both, "http://reg.example/"), "http://p.example:3128/");
  assert.equal(proxy(both, "https://reg.example/"), "https://u:p@s.example/");
  assert.equal(proxy({}, "https://reg.example/"), undefined);
  assert.equal(proxy({ HTTP_PROXY: "p" }, "https://reg.example/"), undefined);
  assert.equal(proxy({ HTTP_PROXY: "p", REQUEST_METHOD: "GET" }, "http://reg.example/"), undefined);
});

test("this machine never goes through a proxy", () => {
  for (const host of ["localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:5000"]) {
    assert.equal(proxy(both, `http://${host}/`), undefined, host);
  }
});

test("NO_PROXY excepts names, domains, addresses, networks and ports", () => {
  const excepted: Readonly<Record<string, { yes: string; no: string }>> = {
    "*": { yes: "a.example [2001:db8::1]", no: "" },
    "example.com": { yes: "example.com a.example.com example.com:8443", no: "badexample.com" },
    ".example.com": { yes: "a.example.com", no: "example.com" },
    "*.example.com": { yes: "a.example.com", no: "example.com" },
    "example.com:8443": { yes: "example.com:8443 a.example.com:8443", no: "example.com" },
    " Example.com , 10.0.0.0/8": { yes: "EXAMPLE.com 10.1.2.3", no: "11.1.2.3 [::2]" },
    "10.0.0.1": { yes: "10.0.0.1", no: "10.0.0.11" },
    "2001:db8::/32": { yes: "[2001:db8::1]:5000", no: "[2001:db9::1]" },
    "10.0.0.0/99,nonsense/8": { yes: "", no: "10.0.0.1" },
  };
  for (const [list, { yes, no }] of Object.entries(excepted)) {
    for (const host of yes.split(" ").filter(Boolean)) {
      assert.equal(
        proxy({ ...both, NO_PROXY: list }, `https://${host}/`),
        undefined,
        `${list} ${host}`,
      );
    }
    for (const host of no.split(" ").filter(Boolean)) {
      assert.ok(proxy({ ...both, no_proxy: list }, `https://${host}/`), `${list} ${host}`);
    }
  }
});

test("what is no proxy fails what would go through it, by its name and not by its value", () => {
  for (const value of ["ftp://u:s3cret@p", "http://", "://s3cret", "socks5://u:s3cret@p:1080"]) {
    const env = { HTTPS_PROXY: value, HTTP_PROXY: "p.example", NO_PROXY: "direct.example" };
    assert.throws(
      () => proxy(env, "https://reg.example/"),
      (error) => {
        assert.ok(error instanceof CodedError && error.code === "unavailable");
        return error.message.startsWith("HTTPS_PROXY ") && !error.message.includes("s3cret");
      },
    );
    for (const direct of ["https://localhost:5000/", "https://direct.example/"]) {
      assert.equal(proxy(env, direct), undefined);
    }
    assert.equal(proxy(env, "http://reg.example/"), "http://p.example/");
  }
});
