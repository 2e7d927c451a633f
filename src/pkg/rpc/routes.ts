import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { Context } from "#pkg/context.ts";
import type { Service } from "./service.ts";

/** One method of a service on a server; `handler` is missing where the service does not implement it. */
export interface Route {
  readonly method: DescMethod;
  readonly handler: ((ctx: Context, input: never) => unknown) | undefined;
}

/** The services of a server by their full names, then methods by the name on the wire. */
export class Routes {
  readonly #services = new Map<string, ReadonlyMap<string, Route>>();

  constructor(services: Iterable<Service> = []) {
    for (const service of services) this.add(service);
  }

  /** Throws when a service of that name is there already: two owners of one name are a mistake at start. */
  add(service: Service): void {
    const { typeName } = service.desc;
    if (this.#services.has(typeName)) throw new Error(`service ${typeName} is registered twice`);
    const methods = new Map<string, Route>();
    for (const method of service.desc.methods) {
      const handler = service.handlers[method.localName];
      methods.set(method.name, { method, handler });
    }
    this.#services.set(typeName, methods);
  }

  hasService(name: string): boolean {
    return this.#services.has(name);
  }

  find(service: string, method: string): Route | undefined {
    const route = this.#services.get(service)?.get(method);
    return route?.handler ? route : undefined;
  }
}

export function encodeMessage<D extends DescMessage>(
  desc: D,
  init: MessageInitShape<D>,
): Uint8Array {
  return toBinary(desc, create(desc, init));
}

export function decodeMessage<D extends DescMessage>(desc: D, bytes: Uint8Array): MessageShape<D> {
  return fromBinary(desc, bytes);
}
