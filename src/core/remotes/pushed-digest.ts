import type { HttpResponse } from "#core/remotes/http-client.ts";
import type { Digest } from "#pkg/digest.ts";
import { failedPrecondition } from "#pkg/errors.ts";

/** Throws `failed-precondition` when a registry says that it made another digest of what it got. */
export function assertPushedDigest(response: HttpResponse, expected: Digest): void {
  const told = response.header("docker-content-digest");
  if (told === undefined || told === "" || told === expected) return;
  throw failedPrecondition(`got digest ${told}, expected ${expected}`);
}
