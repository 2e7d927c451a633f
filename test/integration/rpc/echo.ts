import { createHash } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { CodedError, type ErrorCode } from "#pkg/errors.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";
import { StatusError } from "#pkg/rpc/status.ts";
import { Echo } from "#pkg/rpc/suite-echo.ts";

/** What a request's data may ask for, as JSON; any other data comes back as it is. */
interface Order {
  readonly sleepMs?: number;
  /** `$namespace` and `$lease` stand for what the context holds. */
  readonly reply?: string;
  /** Fail with this code; `details` is a status with details, `close` ends the server during the call. */
  readonly code?: ErrorCode | "details" | "close";
  readonly message?: string;
  readonly count?: number;
  readonly size?: number;
}

const orderMark = "{".charCodeAt(0);

/** The service that the Go program in test/conformance/grpc-go calls. */
export function echoService(onClose: () => void): Service {
  return serve(Echo, {
    async unary(ctx, { data }) {
      if (data[0] !== orderMark) return { data };
      const order = parseOrder(data);
      if (order.sleepMs) await sleep(order.sleepMs, undefined, { signal: ctx.signal });
      if (order.code === "details") throw withDetails(order.message ?? "");
      if (order.code === "close") onClose();
      else if (order.code) throw new CodedError(order.code, order.message ?? "");
      const replies: Record<string, string | undefined> = {
        $namespace: ctx.namespace,
        $lease: ctx.lease,
      };
      const reply = order.reply ?? "";
      return { data: Buffer.from(replies[reply] ?? reply) };
    },
    async *down(_ctx, { data }) {
      const { count = 0, size = 0 } = parseOrder(data);
      for (let i = 0; i < count; i++) yield { data: Buffer.alloc(size, i) };
    },
    async up(ctx, requests) {
      const hash = createHash("sha256");
      let count = 0;
      for await (const { data } of requests) {
        if (Buffer.from(data).toString() === "stall") await once(ctx.signal, "abort");
        hash.update(data);
        count++;
      }
      return { data: Buffer.from(`${count} ${hash.digest("hex")}`) };
    },
    async *both(_ctx, requests) {
      for await (const { data } of requests) {
        if (Buffer.from(data).toString() === "fail") throw new CodedError("aborted", "told to");
        yield { data };
      }
    },
  });
}

function parseOrder(data: Uint8Array): Order {
  return JSON.parse(Buffer.from(data).toString()) as Order; // -- written by the program beside it
}

function withDetails(message: string): StatusError {
  return new StatusError({
    code: 9,
    message,
    details: [
      {
        typeUrl: "type.googleapis.com/google.protobuf.StringValue",
        value: Buffer.from([0x0a, 0x02, 0x68, 0x69]),
      },
    ],
  });
}
