import type { DescMethod } from "@bufbuild/protobuf";

/** Told of every call to a method that is served; must not throw. */
export interface CallObserver {
  begin(method: DescMethod): ObservedCall;
}

export interface ObservedCall {
  /** A message of the request has arrived. */
  received(): void;
  /** A message of the response was handed to the connection. */
  sent(): void;
  /** Once, with the number of the status. */
  ended(code: number): void;
}
