import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { parseArgs } from "node:util";
import { resolveDirectly } from "#pkg/direct-imports.ts";
import { messageOf } from "#pkg/errors.ts";

const payloadFd = 3;
const usage = `Usage: ctd-decoder [--decryption-keys-path DIR]

Decrypts a layer from standard input to standard output, as a stream processor of containerd: the payload on
descriptor 3 says how it is encrypted and may bring keys; DIR holds further private keys.
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      "decryption-keys-path": { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    process.stdout.write(usage);
    return;
  }
  const { readPayload } = await import("#cmd/ctd-decoder/payload.ts");
  const { readDecryptionKeys } = await import("#pkg/ocicrypt/decryption-keys.ts");
  const { unwrapLayerKey } = await import("#pkg/ocicrypt/layer-key.ts");
  const { decipherLayer } = await import("#pkg/ocicrypt/layer-decipher.ts");
  const { annotations, keys } = await readPayload(payloadFd);
  const directory = values["decryption-keys-path"];
  const own = directory === undefined ? [] : await readDecryptionKeys(directory);
  const key = await unwrapLayerKey(annotations, [...own, ...keys]);
  await pipeline(process.stdin, (encrypted) => decipherLayer(encrypted, key), process.stdout);
}

resolveDirectly(join(import.meta.dirname, "../../.."));
try {
  await main();
} catch (error) {
  process.stderr.write(`ctd-decoder: ${messageOf(error)}\n`);
  process.exitCode = 1;
}
