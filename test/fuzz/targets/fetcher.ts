import assert from "node:assert/strict";
import fc from "fast-check";
import { allCapabilities, type RegistryHost } from "#core/remotes/registry-host.ts";
import { externalHost } from "#core/remotes/external-host.ts";
import { RegistryFetcher } from "#core/remotes/fetcher.ts";
import type { HttpClient, HttpRequest, HttpResponse } from "#core/remotes/http-client.ts";
import { Repository } from "#core/remotes/repository.ts";
import { bodyError } from "#core/remotes/transport-error.ts";
import { Context } from "#pkg/context.ts";
import { digestOf } from "#pkg/digest.ts";
import { parseReference } from "#pkg/reference.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

/** How one request is answered; true bytes at the place that the answer says, or none. */
const answer = fc.record({
  /** 0: as it should be. */
  status: fc.constantFrom(0, 0, 0, 403, 404, 416, 500),
  ranges: fc.constantFrom("kept", "kept", "ignored", "unsaid", "elsewhere", "torn"),
  /** Bytes after which the connection breaks, or just ends. */
  cut: fc.option(fc.nat(3_000), { freq: 2 }),
  breaks: fc.boolean(),
  extraBytes: fc.constantFrom(0, 0, 0, 7),
  pieceBytes: fc.integer({ min: 1, max: 2_000 }),
  length: fc.constantFrom("true", "true", "none", "short"),
});
type Answer = typeof answer extends fc.Arbitrary<infer T> ? T : never;

const asItShouldBe: Answer = {
  status: 0,
  ranges: "kept",
  cut: null,
  breaks: false,
  extraBytes: 0,
  pieceBytes: 2_000,
  length: "true",
};

function headersOf(
  given: Answer,
  offset: number,
  end: number,
  totalBytes: number,
): Map<string, string> {
  const headers = new Map<string, string>();
  const isRange = offset > 0 || end < totalBytes;
  const total = given.length === "short" ? totalBytes - 1 : totalBytes;
  if (isRange && given.ranges !== "ignored" && given.ranges !== "unsaid") {
    const range = given.ranges === "torn" ? `bytes ${offset}-` : `bytes ${offset}-${end - 1}`;
    headers.set("content-range", `${range}/${given.length === "none" ? "*" : total}`);
  }
  if (given.length !== "none")
    headers.set("content-length", String(isRange ? end - offset : total));
  return headers;
}

function respond(blob: Buffer, given: Answer, { url, headers }: HttpRequest): HttpResponse {
  const [, from = "0", to = ""] = /^bytes=(\d+)-(\d*)$/.exec(headers["range"]?.[0] ?? "") ?? [];
  const isWhole = given.ranges === "ignored" || headers["range"] === undefined;
  const asked = isWhole ? 0 : Number(from);
  const offset = given.ranges === "elsewhere" && !isWhole ? asked + 1 : asked;
  const end = isWhole || to === "" ? blob.length : Math.min(Number(to) + 1, blob.length);
  const fields = headersOf(given, offset, end, blob.length);
  const status = given.status === 0 ? (isWhole ? 200 : 206) : given.status;
  async function* body(): AsyncGenerator<Uint8Array, void, undefined> {
    const bytes = Buffer.concat([blob.subarray(offset, end), Buffer.alloc(given.extraBytes)]);
    const sent = status > 299 ? Buffer.alloc(0) : bytes.subarray(0, given.cut ?? bytes.length);
    for (let at = 0; at < sent.length; at += given.pieceBytes) {
      yield sent.subarray(at, at + given.pieceBytes);
    }
    if (given.cut !== null && given.breaks) {
      throw bodyError(Object.assign(new Error("reset"), { code: "ECONNRESET" }), url);
    }
  }
  const stream = body();
  return {
    url,
    status,
    header: (name) => fields.get(name),
    headerNames: () => [...fields.keys()],
    headerLines: (name) => [fields.get(name)].filter((line) => line !== undefined),
    body: stream,
    bulk: stream,
    discard: async () => void (await stream.return()),
  };
}

function clientOf(blob: Buffer, answers: readonly Answer[]): HttpClient {
  let next = 0;
  return {
    async send(_ctx, request) {
      // After a while it is a registry as it should be: nothing is tried for ever.
      const given = answers[next++] ?? asItShouldBe;
      return respond(blob, given, request);
    },
  };
}

/** Whatever a registry answers, what is read is the blob from its offset, as far as it goes, or an error says why. */
export const target = fuzzTarget({
  name: "Fetcher",
  smokeRuns: 60,
  inputs: fc.record({
    blob: fc.uint8Array({ maxLength: 4_000 }),
    offset: fc.nat(4_000),
    answers: fc.array(answer, { maxLength: 6 }),
    chunkBytes: fc.option(fc.integer({ min: 512, max: 1_500 })),
    hasUrl: fc.boolean(),
  }),
  async check({ blob: given, offset: at, answers, chunkBytes, hasUrl }) {
    const blob = Buffer.from(given);
    const offset = Math.min(at, blob.length);
    const client = clientOf(blob, answers);
    const plain = externalHost(new URL("https://registry.example"), client);
    const host: RegistryHost = { ...plain, path: "/v2", capabilities: allCapabilities };
    const repository = new Repository(parseReference("registry.example/a:1"), [host], {});
    const fetcher = new RegistryFetcher(repository, {
      transports: { client: () => Promise.resolve(client) },
      ...(chunkBytes !== null && { parallel: { connections: 3, chunkBytes } }),
    });
    const descriptor = {
      mediaType: "application/vnd.oci.image.layer.v1.tar",
      digest: digestOf(blob),
      sizeBytes: blob.length,
      annotations: {},
      ...(hasUrl && { urls: ["https://elsewhere.example/blob"] }),
    };
    let position = offset;
    const reading = async (): Promise<void> => {
      for await (const chunk of fetcher.fetch(Context.background(), descriptor, { offset })) {
        const expected = blob.subarray(position, position + chunk.length);
        assert.ok(expected.equals(chunk), `other bytes at ${position}`);
        position += chunk.length;
      }
    };
    if ((await outcome(reading())) === "ok") assert.equal(position, blob.length);
  },
});
