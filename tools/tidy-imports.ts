import { dirname, join } from "node:path";
import type { Finding, Rule } from "./tidy.ts";

interface Import {
  readonly path: string;
  readonly line: number;
  readonly specifier: string;
}

/** Each layer may import itself and those before it. Layers with the same rank may not import each other. */
const ranks: Readonly<Record<string, number>> = {
  api: 0,
  pkg: 1,
  core: 2,
  shim: 3,
  client: 3,
  cri: 4,
  plugins: 5,
  cmd: 6,
};

const statements = [
  /^[ \t]*import\b(?:[^"'`;=()]*?\bfrom)?\s*["']([^"']+)["']/gm,
  /^[ \t]*export\b[^"'`;=()]*?\bfrom\s*["']([^"']+)["']/gm,
  /\bimport\(\s*["']([^"']+)["']/g,
];

function importsOf(path: string, text: string): Import[] {
  return statements
    .flatMap((statement) => [...text.matchAll(statement)])
    .map((match) => ({
      path,
      line: text.slice(0, match.index).split("\n").length,
      specifier: match[1] ?? "",
    }));
}

/** Layers point one way, a relative import stays with its noun, and messages of the wire stay at the edge. */
export const importRules: Rule = (tree) => {
  const findings: Finding[] = [];
  for (const [path, text] of tree) {
    if (!path.endsWith(".ts")) continue;
    for (const found of importsOf(path, text)) {
      const problem = layerProblem(found) ?? relativeProblem(found) ?? generatedProblem(found);
      if (problem !== undefined) findings.push({ path, line: found.line, problem });
    }
  }
  return findings;
};

function layerProblem({ path, specifier }: Import): string | undefined {
  const from = /^src\/(\w+)\//.exec(path)?.[1];
  const to = /^#(\w+)\//.exec(specifier)?.[1];
  if (from === undefined || to === undefined || from === to) return undefined;
  // Contract suites and unit tests may use what tests have.
  if (to === "test" && /(\.test|\/suite)\.ts$/.test(path)) return undefined;
  const [own, other] = [ranks[from], ranks[to]];
  if (own === undefined) return `src/${from} is no layer of tools/tidy-imports.ts`;
  if (other === undefined || other >= own)
    return `${from} imports ${to}: layers point the other way`;
  return undefined;
}

function relativeProblem({ path, specifier }: Import): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  const target = join(dirname(path), specifier);
  const noun = nounOf(path);
  if (target.startsWith(noun)) return undefined;
  return `${specifier} leaves ${noun}: import by # or keep it with its noun`;
}

/** `src/core/content/`, `src/shim/`, `test/support/`: the folder that relative imports stay in. */
function nounOf(path: string): string {
  const parts = path.split("/");
  const depth = parts[0] === "src" && parts.length > 3 ? 3 : Math.min(parts.length - 1, 2);
  return `${parts.slice(0, depth).join("/")}/`;
}

const edge = /(^|[/.-])(convert|service|proxy)([.-][\w.-]*)?\.ts$/;

function generatedProblem({ path, specifier }: Import): string | undefined {
  if (!specifier.startsWith("#api/") || !path.startsWith("src/")) return undefined;
  if (edge.test(path) || path.endsWith(".test.ts")) return undefined;
  return `${specifier} outside a convert, service or proxy file: convert at the edge`;
}

const entryPoint = /^src\/cmd\/[\w-]+\/main\.ts$/;

/** Files below src that nothing but their own tests asks for. */
export const deadFiles: Rule = (tree) => {
  const used = new Set<string>();
  for (const [path, text] of tree) {
    if (!path.endsWith(".ts")) continue;
    for (const target of mentions(path, text)) {
      const isOwnTest = path.replace(/(\.root)?\.test\.ts$/, ".ts") === target;
      if (!isOwnTest) used.add(target);
    }
  }
  return [...tree.keys()]
    .filter((path) => path.startsWith("src/") && path.endsWith(".ts"))
    .filter((path) => !path.endsWith(".test.ts") && !entryPoint.test(path) && !used.has(path))
    .map((path) => ({ path, line: 1, problem: "nothing imports it: use it or remove it" }));
};

/** Imports, and workers and programs that are named by a string. */
function mentions(path: string, text: string): string[] {
  const strings = [...text.matchAll(/["'`]([#.\w/-]+\.ts)["'`]/g)].map(([, name]) => name ?? "");
  return strings.map((name) => {
    if (name.startsWith("#")) return name.replace("#test/", "test/").replace("#", "src/");
    return name.startsWith(".") ? join(dirname(path), name) : name;
  });
}
