import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runOk } from "#test/support/command.ts";

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** A certificate authority of the test's own, made in `dir`. */
export async function makeAuthority(dir: string, name: string): Promise<Certificate> {
  const [cert, key] = [join(dir, `${name}.pem`), join(dir, `${name}.key`)];
  const subject = ["-subj", `/CN=${name}`, "-days", "2"];
  const made = ["-newkey", "rsa:2048", "-noenc", "-keyout", key, "-out", cert];
  await runOk(["openssl", "req", "-x509", ...made, ...subject]);
  return { cert, key };
}

/** One that the authority signed, for the names given as `DNS:x` or `IP:x`. */
export async function makeCertificate(
  authority: Certificate,
  dir: string,
  name: string,
  names: readonly string[],
): Promise<Certificate> {
  const [cert, key] = [join(dir, `${name}.crt.pem`), join(dir, `${name}.key.pem`)];
  const [request, extensions] = [join(dir, `${name}.csr`), join(dir, `${name}.ext`)];
  const usage = "extendedKeyUsage = serverAuth, clientAuth";
  await writeFile(extensions, `subjectAltName = ${names.join(", ")}\n${usage}\n`);
  const made = ["-newkey", "rsa:2048", "-noenc", "-keyout", key, "-out", request];
  await runOk(["openssl", "req", ...made, "-subj", `/CN=${name}`]);
  const signer = ["-CA", authority.cert, "-CAkey", authority.key, "-CAcreateserial"];
  const rest = ["-extfile", extensions, "-days", "1"];
  await runOk(["openssl", "x509", "-req", "-in", request, "-out", cert, ...signer, ...rest]);
  return { cert, key };
}
