// Reads the tree and refuses what lint cannot see. Each finding is `path:line: what is wrong and what to do`.
import { globSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { deadFiles, importRules } from "./tidy-imports.ts";

/** Every file that people wrote, by its path in the project. */
export type Tree = ReadonlyMap<string, string>;

export interface Finding {
  readonly path: string;
  readonly line: number;
  readonly problem: string;
}

export type Rule = (tree: Tree) => Finding[];

/** Findings of one pattern, line by line. */
function eachLine(tree: Tree, find: (line: string, path: string) => string | undefined): Finding[] {
  const findings: Finding[] = [];
  for (const [path, text] of tree) {
    for (const [i, line] of text.split("\n").entries()) {
      const problem = find(line, path);
      if (problem !== undefined) findings.push({ path, line: i + 1, problem });
    }
  }
  return findings;
}

const bannedNames = ["utils", "util", "helpers", "helper", "common", "misc", "index", "types"];

export const fileNames: Rule = (tree) =>
  [...tree.keys()]
    .filter((path) => path.endsWith(".ts") && path !== "src/plugins/types.ts")
    .filter((path) => {
      const parts = path.slice(0, -".ts".length).split("/");
      return parts.some((part) => bannedNames.includes(part.replace(/\.test$/, "")));
    })
    .map((path) => ({ path, line: 1, problem: "says nothing: name the file after what it holds" }));

// Written so that this file does not find itself.
const markers = new RegExp(
  `\\b(${["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"].join("|")})\\b`,
);

export const leftoverMarkers: Rule = (tree) =>
  eachLine(tree, (line) => {
    const marker = markers.exec(line)?.[1];
    return marker && `${marker} is left over: do it, or say it in an issue`;
  });

const machinePaths = new RegExp(["/wo" + "rk/", "/ro" + "ot/go/", "/tmp/br" + "ief"].join("|"));

export const noMachinePaths: Rule = (tree) =>
  eachLine(tree, (line) => {
    const found = machinePaths.exec(line)?.[0];
    return found && `${found} exists on one machine only`;
  });

export const lineLength: Rule = (tree) =>
  eachLine(tree, (line, path) => {
    if (!/\.(ts|sh)$/.test(path)) return undefined;
    // The formatter breaks no strings, templates, patterns or comments; anything else it has seen to.
    return line.length > 120 ? `${line.length} columns: at most 120` : undefined;
  });

const fileLengthMax = 500;

export const fileLength: Rule = (tree) =>
  [...tree]
    .filter(([path]) => path.startsWith("src/") && !path.endsWith(".test.ts"))
    .map(([path, text]) => ({ path, lines: text.split("\n").length }))
    .filter(({ lines }) => lines > fileLengthMax)
    .map(({ path, lines }) => ({
      path,
      line: fileLengthMax,
      problem: `${lines} lines: at most ${fileLengthMax}, 300 read better`,
    }));

export const disablesHaveReasons: Rule = (tree) =>
  eachLine(tree, (line, path) => {
    if (!path.endsWith(".ts") || path.startsWith("tools/tidy")) return undefined;
    const found = /(oxlint|eslint)-disable|biome-ignore|@ts-(ignore|expect-error|nocheck)/.exec(
      line,
    );
    return found && !line.includes(" -- ") ? `${found[0]} without \` -- reason\`` : undefined;
  });

/** Links of documents, and the paths they name in backquotes, lead to something. */
export const documentLinks: Rule = (tree) =>
  eachLine(tree, (line, path) => {
    if (!path.endsWith(".md")) return undefined;
    const folder = path.split("/").slice(0, -1).join("/");
    const links = [...line.matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)/g)].map(([, link]) =>
      join(folder, link ?? ""),
    );
    const paths = [...line.matchAll(/`((?:src|test|tools|docs|bin|bench)\/[\w./-]+\.\w+)`/g)];
    const named = [...links, ...paths.map(([, named]) => named ?? "")];
    const broken = named.find((target) => !exists(tree, target));
    return broken && `${broken} does not exist`;
  });

function exists(tree: Tree, target: string): boolean {
  const folder = target.replace(/\/$/, "");
  return tree.has(folder) || [...tree.keys()].some((path) => path.startsWith(`${folder}/`));
}

export const oneHeading: Rule = (tree) =>
  [...tree]
    .filter(([path]) => path.endsWith(".md"))
    .map(([path, text]) => ({ path, count: withoutCode(text).match(/^# /gm)?.length ?? 0 }))
    .filter(({ count }) => count !== 1)
    .map(({ path, count }) => ({ path, line: 1, problem: `${count} first-level headings: one` }));

function withoutCode(text: string): string {
  return text.replaceAll(/^```[^]*?^```/gm, "");
}

/** Every promise of docs/compat.md names the test that holds it, or says that none does. */
export const promisesAreHeld: Rule = (tree) => {
  const text = tree.get("docs/compat.md") ?? "";
  const [promises = ""] = text.split("\n## Answers that differ");
  return eachLine(new Map([["docs/compat.md", promises]]), (line) => {
    const isRow = line.startsWith("| ") && !/^\| (promise|service) \|/.test(line);
    const isHeld = /`(src|test)\/[\w./-]+\.ts`/.test(line) || /\bpending\b/.test(line);
    return isRow && !isHeld ? "a promise without a test: name it, or say pending" : undefined;
  });
};

export const rules: readonly Rule[] = [
  importRules,
  deadFiles,
  fileNames,
  leftoverMarkers,
  noMachinePaths,
  lineLength,
  fileLength,
  disablesHaveReasons,
  documentLinks,
  oneHeading,
  promisesAreHeld,
];

const project = resolve(import.meta.dirname, "..");

function readTree(): Tree {
  const files = globSync("{*,.ci/*,bin/*,docs/**,proto/**,src/**,test/**,tools/**,bench/**}", {
    cwd: project,
    exclude: ["src/api/gen/**", "tools/node/**", "package-lock.json", "test/compat/golden/**"],
  });
  const paths = files.filter((path) => statSync(join(project, path)).isFile()).toSorted();
  return new Map(paths.map((path) => [path, readFileSync(join(project, path), "utf8")]));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const tree = readTree();
  const findings = rules.flatMap((rule) => rule(tree));
  for (const { path, line, problem } of findings) console.error(`${path}:${line}: ${problem}`);
  process.exitCode = findings.length > 0 ? 1 : 0;
}
