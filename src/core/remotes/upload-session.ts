import type { HttpResponse } from "#core/remotes/http-client.ts";
import type { RegistryHost } from "#core/remotes/registry-host.ts";
import { externalHost } from "#core/remotes/external-host.ts";
import { CodedError } from "#pkg/errors.ts";

/** Where an upload goes. The registry names another place with every answer. */
export class UploadSession {
  readonly #registry: RegistryHost;
  #url: URL;
  #host: RegistryHost;

  constructor(registry: RegistryHost, url: URL, isForeign: boolean) {
    this.#registry = registry;
    this.#url = url;
    this.#host = isForeign ? externalHost(url, registry.foreignClient) : registry;
  }

  get url(): URL {
    return this.#url;
  }

  /** The registry, or a server that it passes uploads on to, which gets nothing of its credentials. */
  get host(): RegistryHost {
    return this.#host;
  }

  get isForeign(): boolean {
    return this.#host !== this.#registry;
  }

  /** Follows the answer's `Location`, where it has one. */
  moveTo(response: HttpResponse): void {
    const location = response.header("location");
    if (location === undefined) return;
    const next = parseLocation(location, response);
    // Once elsewhere, also the way back is somebody else's word.
    const isForeign = this.isForeign || next.origin !== response.url.origin;
    this.#url = next;
    this.#host = isForeign ? externalHost(next, this.#registry.foreignClient) : this.#registry;
  }
}

/** Throws when the answer names no place. */
export function openSession(host: RegistryHost, response: HttpResponse): UploadSession {
  const location = response.header("location") ?? "";
  const url = parseLocation(location, response);
  return new UploadSession(host, url, url.origin !== response.url.origin);
}

/** A path, a URL, or `host/path` without a scheme. */
function parseLocation(location: string, response: HttpResponse): URL {
  const { origin, protocol } = response.url;
  const text = /^\/(?!\/)/.test(location)
    ? origin + location
    : location.includes("://")
      ? location
      : `${protocol}//${location.replace(/^\/\//, "")}`;
  const url = location !== "" && URL.canParse(text) ? new URL(text) : undefined;
  if (url && /^https?:$/.test(url.protocol)) {
    url.username = "";
    url.password = "";
    return url;
  }
  const shown = JSON.stringify(location.split("?", 1)[0] ?? "");
  throw new CodedError("unavailable", `unable to parse location ${shown} of an upload`);
}

/** How many bytes a `Range: 0-N` says that there are. `0-0` is what registries say of none. */
export function rangeEnd(response: HttpResponse): number | undefined {
  const last = /^(?:bytes[= ])?0-(\d{1,16})$/.exec(response.header("range") ?? "")?.[1];
  if (last === undefined) return undefined;
  return last === "0" ? 0 : Number(last) + 1;
}
