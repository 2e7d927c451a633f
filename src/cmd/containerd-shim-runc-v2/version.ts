import packageJson from "../../../package.json" with { type: "json" };

export const version: string = packageJson.version;

/** Set when the sources were taken from no checkout; unknown in one. */
export const revision = "";

export function versionText(program: string): string {
  const lines = [
    `Version:  ${version}`,
    `Revision: ${revision}`,
    `Node version: ${process.version}`,
  ];
  return `${program}:\n${lines.map((line) => `  ${line}\n`).join("")}\n`;
}
