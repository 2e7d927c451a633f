import type { Service } from "#pkg/rpc/service.ts";

/**
 * A gRPC service that has a ttrpc one beside it: both are the work of one plugin, as upstream lists
 * them.
 */
export interface ServiceWithTtrpc extends Service {
  readonly ttrpc: Service;
}

export function withTtrpc(service: Service, ttrpc: Service): ServiceWithTtrpc {
  return { ...service, ttrpc };
}

/** The ttrpc services among those of gRPC plugins. */
export function ttrpcServicesOf(services: Iterable<Service>): Service[] {
  return Array.from(services).flatMap((service) => (isWithTtrpc(service) ? [service.ttrpc] : []));
}

function isWithTtrpc(service: Service): service is ServiceWithTtrpc {
  return "ttrpc" in service;
}
