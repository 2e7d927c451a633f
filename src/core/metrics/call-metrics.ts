import type { DescMethod } from "@bufbuild/protobuf";
import type { CallObserver, ObservedCall } from "#pkg/rpc/call-observer.ts";
import type { Service } from "#pkg/rpc/service.ts";
import { Counter, SecondsHistogram } from "./instruments.ts";
import type { MetricFamily, MetricLabels, MetricSource } from "./metrics.ts";

/** By number. */
const codeNames = [
  "OK",
  "Canceled",
  "Unknown",
  "InvalidArgument",
  "DeadlineExceeded",
  "NotFound",
  "AlreadyExists",
  "PermissionDenied",
  "ResourceExhausted",
  "FailedPrecondition",
  "Aborted",
  "OutOfRange",
  "Unimplemented",
  "Internal",
  "Unavailable",
  "DataLoss",
  "Unauthenticated",
] as const;

const types = {
  unary: "unary",
  server_streaming: "server_stream",
  client_streaming: "client_stream",
  bidi_streaming: "bidi_stream",
} as const satisfies Record<DescMethod["methodKind"], string>;

const counter = (name: string, help: string): Counter =>
  new Counter({ name: `grpc_server_${name}_total`, help });

/** `grpc_server_*`: calls by service, method and type. */
export class CallMetrics implements CallObserver, MetricSource {
  readonly #started = counter("started", "calls that have begun");
  readonly #handled = counter("handled", "calls that have ended, by their status");
  readonly #received = counter("msg_received", "messages of requests");
  readonly #sent = counter("msg_sent", "messages of responses");
  readonly #seconds: SecondsHistogram | undefined;

  /** `histogram`: measure how long calls take as well. */
  constructor({ histogram }: { readonly histogram: boolean }) {
    const help = "how long calls took";
    this.#seconds = histogram
      ? new SecondsHistogram({ name: "grpc_server_handling_seconds", help })
      : undefined;
  }

  /** Shows every method of the services from the beginning, so that rates can be computed. */
  prepare(services: Iterable<Service>): void {
    for (const { desc } of services) {
      for (const method of desc.methods) {
        const labels = labelsOf(method);
        for (const each of [this.#started, this.#received, this.#sent]) each.add(labels, 0);
        for (const code of codeNames) this.#handled.add({ grpc_code: code, ...labels }, 0);
        this.#seconds?.prepare(labels);
      }
    }
  }

  begin(method: DescMethod): ObservedCall {
    const labels = labelsOf(method);
    const startMs = performance.now();
    this.#started.add(labels);
    return {
      received: () => this.#received.add(labels),
      sent: () => this.#sent.add(labels),
      ended: (code) => {
        this.#handled.add({ grpc_code: codeNames[code] ?? "Unknown", ...labels });
        this.#seconds?.observe((performance.now() - startMs) / 1000, labels);
      },
    };
  }

  collect(): readonly MetricFamily[] {
    const counters = [this.#started, this.#handled, this.#received, this.#sent];
    return [...counters, this.#seconds].flatMap((source) => source?.collect() ?? []);
  }
}

function labelsOf(method: DescMethod): MetricLabels {
  return {
    grpc_method: method.name,
    grpc_service: method.parent.typeName,
    grpc_type: types[method.methodKind],
  };
}
