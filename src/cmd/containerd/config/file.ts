import { parse, TomlError } from "smol-toml";
import * as v from "valibot";
import { invalidArgument } from "#pkg/errors.ts";
import { parseTable, quotePath, unknownKeys } from "#pkg/plugin/config.ts";

const integer = v.pipe(v.number(), v.safeInteger("integer"));
const text = v.optional(v.string());
const texts = v.optional(v.array(v.string()));
const count = v.optional(integer);
const flag = v.optional(v.boolean());

const grpc = v.object({
  address: text,
  tcp_address: text,
  tcp_tls_ca: text,
  tcp_tls_cert: text,
  tcp_tls_key: text,
  uid: count,
  gid: count,
  max_recv_message_size: count,
  max_send_message_size: count,
  tcp_tls_common_name: text,
});

const debug = v.object({
  level: text,
  format: text,
  log_trace_id: flag,
  address: text,
  uid: count,
  gid: count,
});

const streamProcessor = v.object({
  accepts: texts,
  returns: text,
  path: text,
  args: texts,
  env: texts,
});

const proxyPlugin = v.object({
  type: text,
  address: text,
  platform: text,
  exports: v.optional(v.record(v.string(), v.string())),
  capabilities: texts,
});

/**
 * Every key of any version; which of them a version gives a meaning is for the migration to say.
 */
const schema = v.object({
  version: count,
  root: text,
  state: text,
  temp: text,
  debug: v.optional(debug),
  disabled_plugins: texts,
  required_plugins: texts,
  plugins: v.optional(v.record(v.string(), v.record(v.string(), v.unknown()))),
  oom_score: count,
  cgroup: v.optional(v.object({ path: text })),
  proxy_plugins: v.optional(v.record(v.string(), proxyPlugin)),
  timeouts: v.optional(v.record(v.string(), v.string())),
  imports: texts,
  stream_processors: v.optional(v.record(v.string(), streamProcessor)),
  grpc: v.optional(grpc),
  ttrpc: v.optional(v.object({ address: text, uid: count, gid: count })),
  metrics: v.optional(v.object({ address: text, grpc_histogram: flag })),
});

/** One file as it was written, its keys known and of the right type. */
export type ConfigFile = v.InferOutput<typeof schema>;

/**
 * Parses one file. A key that no version knows is reported by its path and ignored.
 *
 * Throws `invalid-argument`: a syntax error with row and column, a value of the wrong type with its
 * key, what was expected there and what was given.
 */
export function parseConfigFile(toml: string, onUnknownKey: (key: string) => void): ConfigFile {
  let table: unknown;
  try {
    table = parse(toml);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = error.message.split("\n")[0]?.replace("Invalid TOML document: ", "") ?? "";
    throw invalidArgument(
      `failed to unmarshal TOML at row ${error.line} column ${error.column}: ${reason}`,
    );
  }
  for (const path of unknownKeys(schema, table)) onUnknownKey(quotePath(path));
  return parseTable(schema, table);
}
