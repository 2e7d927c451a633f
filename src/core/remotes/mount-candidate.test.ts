import assert from "node:assert/strict";
import { test } from "node:test";
import {
  addDistributionSource,
  distributionSourceLabel,
  mountCandidate,
} from "#core/remotes/mount-candidate.ts";
import { parseReference } from "#pkg/reference.ts";

test("the repository with the most leading components in common is mounted from", () => {
  const target = parseReference("reg.example:5000/team/app/web:t");
  const of = (repositories: string): string | undefined =>
    mountCandidate(target, { [distributionSourceLabel(target)]: repositories });
  assert.equal(distributionSourceLabel(target), "containerd.io/distribution.source.reg.example");
  assert.equal(of("team/app/db,team/other,else"), "team/app/db");
  assert.equal(of("team/a,team/b"), "team/b");
  assert.equal(of("team/application/web,else"), "team/application/web");
  assert.equal(of("else"), "else");
  assert.equal(of("team/app/web"), undefined);
  assert.equal(of(""), undefined);
  assert.equal(mountCandidate(target, {}), undefined);
  const elsewhere = { "containerd.io/distribution.source.docker.io": "team/app/db" };
  assert.equal(mountCandidate(target, elsewhere), undefined);
});

test("sources are kept sorted, each once", () => {
  assert.equal(addDistributionSource(undefined, "b"), "b");
  assert.equal(addDistributionSource("b", "a"), "a,b");
  assert.equal(addDistributionSource("a,c,,a", "b"), "a,b,c");
  assert.equal(addDistributionSource("a,b", "a"), "a,b");
});
