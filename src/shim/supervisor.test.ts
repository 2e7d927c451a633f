import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { mock, suite, test } from "node:test";
import { codeOf } from "#pkg/errors.ts";
import { defaultOptions } from "./options.ts";
import type { ShimServices } from "./shim-services.ts";
import { Supervisor } from "./supervisor.ts";

// -- none of these tests comes as far as a container, which is what the services are for
const services = {} as ShimServices;

function supervisor(): { supervisor: Supervisor; shutdowns: () => number } {
  let count = 0;
  return {
    supervisor: new Supervisor(services, () => {
      count += 1;
    }),
    shutdowns: () => count,
  };
}

const request = {
  id: "c1",
  bundle: tmpdir(),
  rootfs: [],
  stdio: { stdin: "", stdout: "", stderr: "", terminal: false },
  options: defaultOptions,
};

suite("supervisor", () => {
  test("shutdown() happens once, and nothing is taken after it", async () => {
    const { supervisor: it, shutdowns } = supervisor();
    it.shutdown();
    it.shutdown();
    assert.equal(shutdowns(), 1);
    assert.throws(
      () => it.reserve("c1"),
      (error) => codeOf(error) === "unavailable",
    );
    await assert.rejects(it.create(request), (error) => codeOf(error) === "unavailable");
  });

  test("a reservation keeps it until it expires; then a Shutdown said meanwhile counts", () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    try {
      const { supervisor: it, shutdowns } = supervisor();
      it.reserve("c1");
      it.shutdown();
      assert.equal(shutdowns(), 0);
      mock.timers.tick(9_999);
      assert.equal(shutdowns(), 0);
      mock.timers.tick(1);
      assert.equal(shutdowns(), 1);
    } finally {
      mock.timers.reset();
    }
  });

  test("a reservation that expires by itself ends nothing", () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    try {
      const { supervisor: it, shutdowns } = supervisor();
      it.reserve("c1");
      mock.timers.tick(60_000);
      assert.equal(shutdowns(), 0);
      it.shutdown();
      assert.equal(shutdowns(), 1);
    } finally {
      mock.timers.reset();
    }
  });

  test("container() speaks upstream's words about one that is not there", () => {
    assert.throws(() => supervisor().supervisor.container("x"), /container not created: not found/);
  });
});
