import { isTable } from "#pkg/plugin/table.ts";
import type { ConfigTable } from "#pkg/plugin/plugin.ts";

const indent = "  ";

/**
 * Writes a table as Go containerd prints its configuration: literal strings, values before tables,
 * tables indented, keys in the order they have. What is undefined is left out.
 */
export function formatToml(table: ConfigTable): string {
  const lines: string[] = [];
  writeTable(lines, table, [], 0);
  return `${lines.join("\n")}\n`;
}

function writeTable(
  lines: string[],
  table: ConfigTable,
  path: readonly string[],
  depth: number,
): void {
  const pad = indent.repeat(depth);
  const entries = Object.entries(table).filter(([, value]) => value !== undefined);
  const values = entries.filter(([, value]) => !isTable(value) && !isTables(value));
  for (const [key, value] of values) lines.push(`${pad}${formatKey(key)} = ${formatValue(value)}`);
  let separate = values.length > 0;
  for (const [key, value] of entries) {
    const inner = [...path, key];
    const name = inner.map(formatKey).join(".");
    const tables = isTable(value) ? [value] : isTables(value) ? value : [];
    for (const each of tables) {
      if (separate) lines.push("");
      separate = true;
      lines.push(isTable(value) ? `${pad}[${name}]` : `${pad}[[${name}]]`);
      writeTable(lines, each, inner, depth + 1);
    }
  }
}

function isTables(value: unknown): value is readonly ConfigTable[] {
  return Array.isArray(value) && value.length > 0 && value.every(isTable);
}

function formatKey(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : formatString(key);
}

function formatValue(value: unknown): string {
  if (typeof value === "string") return formatString(value);
  if (typeof value === "number") return formatNumber(value);
  if (Array.isArray(value)) return `[${value.map(formatValue).join(", ")}]`;
  if (value instanceof Date) return value.toISOString();
  if (isTable(value)) {
    const inner = Object.entries(value).map(
      ([k, each]) => `${formatKey(k)} = ${formatValue(each)}`,
    );
    return inner.length === 0 ? "{}" : `{ ${inner.join(", ")} }`;
  }
  return String(value);
}

function formatNumber(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  // Beyond what an integer of the format may be, JavaScript would print digits that do not read
  // back.
  return Number.isSafeInteger(value) ? String(value) : formatFloat(value);
}

function formatFloat(value: number): string {
  const text = String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

function formatString(value: string): string {
  if (!/['\p{Cc}]/u.test(value)) return `'${value}'`;
  const escaped = value.replaceAll(/["\\\p{Cc}]/gu, (c) => {
    const short = { '"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r" }[c];
    return short ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, "0").toUpperCase()}`;
  });
  return `"${escaped}"`;
}
