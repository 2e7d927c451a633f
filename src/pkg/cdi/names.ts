import { invalidArgument } from "#pkg/errors.ts";

/** `vendor.com/class=device`, taken apart. */
export interface QualifiedName {
  readonly vendor: string;
  readonly cdiClass: string;
  readonly device: string;
}

/** Undefined for what is no name of a CDI device, such as a path. */
export function tryParseQualifiedName(name: string): QualifiedName | undefined {
  const parts = /^([^/=]+)\/([^=]+)=(.+)$/s.exec(name);
  const [, vendor = "", cdiClass = "", device = ""] = parts ?? [];
  const isOne = isName(vendor) && isName(cdiClass) && isDeviceName(device);
  return isOne ? { vendor, cdiClass, device } : undefined;
}

export function assertVendor(vendor: string): void {
  if (!isName(vendor)) throw invalidArgument(`invalid vendor ${JSON.stringify(vendor)}`);
}

export function assertClass(cdiClass: string): void {
  if (!isName(cdiClass)) throw invalidArgument(`invalid class ${JSON.stringify(cdiClass)}`);
}

export function assertDeviceName(name: string): void {
  if (!isDeviceName(name)) throw invalidArgument(`invalid device name ${JSON.stringify(name)}`);
}

function isName(name: string): boolean {
  return /^[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?$/.test(name);
}

function isDeviceName(name: string): boolean {
  return /^[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?$/.test(name);
}
