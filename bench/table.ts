import type { Row, Summary } from "./measures.ts";

const header = ["measure", "unit", "n", "Go", "[quartiles]", "ours", "[quartiles]", "ratio"];

/** The rows as columns of text, a heading for each bench. */
export function tableOf(rows: readonly Row[]): string {
  const cells = rows.map(cellsOf);
  const widths = header.map((name, column) =>
    Math.max(name.length, ...cells.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join("  ");
  const lines = [line(header)];
  for (const [i, row] of rows.entries()) {
    if (rows[i - 1]?.bench !== row.bench) lines.push(`-- ${row.bench}`);
    lines.push(line(cells[i] ?? []));
  }
  return lines.join("\n");
}

function cellsOf({ measure, unit, go, ours, ratio }: Row): string[] {
  return [
    measure,
    unit,
    String(go?.samples ?? ours?.samples ?? 0),
    go === undefined ? "-" : digits(go.median),
    spread(go),
    ours === undefined ? "-" : digits(ours.median),
    spread(ours),
    ratio === undefined ? "-" : ratio.toFixed(2),
  ];
}

function spread(summary: Summary | undefined): string {
  if (summary === undefined || summary.samples < 2) return "";
  return `[${digits(summary.low)} ${digits(summary.high)}]`;
}

/** Three significant ones, never as an exponent. */
function digits(value: number): string {
  if (value === 0) return "0";
  const places = 2 - Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.max(0, Math.min(4, places)));
}
