import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { createSecureContext, rootCertificates, type SecureContext } from "node:tls";
import { CodedError, isErrno, messageOf } from "#pkg/errors.ts";

/** How to talk TLS with a host. Files are read again by every use of the settings. */
export interface TlsSettings {
  /** PEM files, trusted besides the system's. */
  readonly caFiles: readonly string[];
  /** Without `key`, the key is in the file of the certificate. */
  readonly clientPairs: readonly { readonly cert: string; readonly key?: string | undefined }[];
  readonly skipVerify: boolean;
}

export const defaultTls: TlsSettings = { caFiles: [], clientPairs: [], skipVerify: false };

export interface TlsMaterial {
  /** Equal for equal settings and file contents. */
  readonly fingerprint: string;
  readonly skipVerify: boolean;
  /** Made at the first TLS connection: parsing a system's certificates takes a tenth of a second. */
  context(): Promise<SecureContext>;
}

/** Throws naming the file when one cannot be read; what is in it is looked at by `context`. */
export async function loadTls(
  settings: TlsSettings,
  systemAuthorities: () => Promise<readonly string[]>,
): Promise<TlsMaterial> {
  const authorities = await Promise.all(
    settings.caFiles.map((file) => read(file, "unable to read CA cert")),
  );
  const pairs = await Promise.all(
    settings.clientPairs.map(async ({ cert, key }) => {
      const certText = await read(cert, "unable to read CERT file");
      const keyText = key === undefined ? certText : await read(key, "unable to read CERT file");
      return { cert: certText, key: keyText };
    }),
  );
  const { skipVerify } = settings;
  const content = JSON.stringify([authorities, pairs, skipVerify]);
  let context: Promise<SecureContext> | undefined;
  const make = async (): Promise<SecureContext> => {
    checkAuthorities(settings.caFiles, authorities);
    const ca = skipVerify ? [] : [...(await systemAuthorities()), ...authorities];
    try {
      return createSecureContext({
        ...(ca.length > 0 && { ca: [...ca] }),
        cert: pairs.map((pair) => pair.cert),
        key: pairs.map((pair) => pair.key),
      });
    } catch (cause) {
      const files = settings.clientPairs.map((pair) => pair.cert).join(", ");
      throw invalid(`failed to load X509 key pair ${files}: ${messageOf(cause)}`, cause);
    }
  };
  return {
    fingerprint: createHash("sha256").update(content).digest("hex"),
    skipVerify,
    context: () => (context ??= make()),
  };
}

function checkAuthorities(files: readonly string[], texts: readonly string[]): void {
  for (const [i, text] of texts.entries()) {
    if (!text.includes("-----BEGIN CERTIFICATE-----")) {
      throw invalid(`unable to load CA cert ${JSON.stringify(files[i])}`, undefined);
    }
  }
}

async function read(file: string, problem: string): Promise<string> {
  try {
    return await readFile(file, "latin1");
  } catch (cause) {
    throw invalid(`${problem} ${JSON.stringify(file)}: ${messageOf(cause)}`, cause);
  }
}

function invalid(message: string, cause: unknown): CodedError {
  return new CodedError("failed-precondition", message, { cause });
}

// Where distributions keep them in one file, as Go looks for them.
const bundles: readonly string[] = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/pki/tls/cacert.pem",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/cert.pem",
];
const directories: readonly string[] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/**
 * The certificates that the system trusts, in PEM; those that Node brings along where there are
 * none. `file` stands for the system's own: SSL_CERT_FILE.
 */
export async function readSystemAuthorities(file?: string): Promise<readonly string[]> {
  for (const path of file === undefined || file === "" ? bundles : [file]) {
    const text = await tryRead(path);
    if (text !== undefined) return [text];
  }
  for (const directory of directories) {
    const names = await tryList(directory);
    const texts = await Promise.all(
      names.filter((name) => name.endsWith(".pem")).map((name) => tryRead(`${directory}/${name}`)),
    );
    const found = texts.filter((text) => text !== undefined);
    if (found.length > 0) return found;
  }
  return rootCertificates;
}

async function tryRead(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "latin1");
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES", "EISDIR")) return undefined;
    throw error;
  }
}

async function tryList(path: string): Promise<readonly string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return [];
    throw error;
  }
}
