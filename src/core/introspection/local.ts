import { randomUUID } from "node:crypto";
import { mkdir, open, readFile, rename, stat, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import type { Deprecations } from "#core/introspection/deprecations.ts";
import type {
  Introspection,
  PluginInfo,
  PluginInfoProvider,
  ServerInfo,
} from "#core/introspection/introspection.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, failedPrecondition, isErrno, notFound, notImplemented } from "#pkg/errors.ts";
import { field } from "#pkg/filters/filter.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { quote } from "#pkg/log-format.ts";
import type { PluginRecord } from "#pkg/plugin/plugin.ts";

const uuidForm = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export interface LocalIntrospectionOptions {
  /** Live: grows while the daemon starts. */
  readonly plugins: readonly PluginRecord[];
  readonly uuidPath: string;
  readonly deprecations: Deprecations;
}

export class LocalIntrospection implements Introspection {
  readonly #options: LocalIntrospectionOptions;
  readonly #lock = new KeyedMutex();

  constructor(options: LocalIntrospectionOptions) {
    this.#options = options;
  }

  plugins(filters: readonly string[] = []): readonly PluginRecord[] {
    const matches = parseFilters(filters);
    return this.#options.plugins.filter((plugin) =>
      matches(([name]) => {
        if (name === "type") return field(plugin.type);
        return name === "id" ? field(plugin.id) : undefined;
      }),
    );
  }

  async server(): Promise<ServerInfo> {
    const { ino } = await stat(`/proc/${process.pid}/ns/pid`);
    return {
      uuid: await this.#uuid(),
      pid: process.pid,
      pidns: ino,
      deprecations: this.#options.deprecations.list(),
    };
  }

  async pluginInfo(
    ctx: Context,
    { type, id }: { type: string; id: string },
    options?: Any,
  ): Promise<PluginInfo> {
    const plugin = this.#options.plugins.find((p) => p.type === type && p.id === id);
    if (!plugin) throw notFound(`plugin ${type}.${id} not found`);
    if (!options) return { plugin, extra: undefined };
    if (plugin.state !== "started") {
      throw failedPrecondition("cannot get extra info, plugin not successfully loaded");
    }
    if (!isProvider(plugin.instance)) {
      throw notImplemented("plugin does not provided extra information");
    }
    return { plugin, extra: await plugin.instance.pluginInfo(ctx, options) };
  }

  /** Read each time: who removes the file asks for a new one. */
  async #uuid(): Promise<string> {
    using _ = await this.#lock.acquire("uuid");
    const { uuidPath } = this.#options;
    const text = await readIfThere(uuidPath);
    if (text === "") return writeUuid(uuidPath);
    if (!uuidForm.test(text)) {
      throw new CodedError("data-loss", `${uuidPath} holds ${quote(text.slice(0, 80))}, no UUID`);
    }
    return text;
  }
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return "";
    throw error;
  }
}

async function writeUuid(path: string): Promise<string> {
  const uuid = randomUUID();
  const temporary = `${path}.${uuid}`;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  try {
    await using file = await open(temporary, "wx", 0o644);
    await file.writeFile(uuid);
    await file.sync();
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined); // -- the error that matters is the one thrown
    throw error;
  }
  await using dir = await open(dirname(path), "r");
  await dir.sync();
  return uuid;
}

function isProvider(instance: unknown): instance is PluginInfoProvider {
  return (
    typeof instance === "object" &&
    instance !== null &&
    "pluginInfo" in instance &&
    typeof instance.pluginInfo === "function"
  );
}
