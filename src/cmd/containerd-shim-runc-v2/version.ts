import { product } from "#pkg/version.ts";

export const { version } = product;

/** Nothing here asks the checkout: a shim's version is printed for people, its daemon's tells more. */
export const revision = "";

export function versionText(program: string): string {
  const lines = [
    `Version:  ${version}`,
    `Revision: ${revision}`,
    `Node version: ${process.version}`,
  ];
  return `${program}:\n${lines.map((line) => `  ${line}\n`).join("")}\n`;
}
