import type { Distribution, MetricFamily, MetricLabels } from "./metrics.ts";

/** Content type of the Prometheus text exposition format. */
export const textContentType = "text/plain; version=0.0.4; charset=utf-8";

/**
 * Families as Prometheus reads them: by name, samples by labels, values as Go prints them.
 *
 * Throws for a name that no Prometheus would read: names are this program's own.
 */
export function formatMetrics(families: readonly MetricFamily[]): string {
  const shown = families.filter(({ samples }) => samples.length > 0);
  return shown
    .toSorted((a, b) => compare(a.name, b.name))
    .map(formatFamily)
    .join("");
}

function formatFamily(family: MetricFamily): string {
  const { name, help, type } = family;
  if (!/^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name)) throw new Error(`metric name ${name}`);
  const lines =
    family.type === "histogram"
      ? sorted(family.samples).flatMap((sample) => distributionLines(name, sample))
      : sorted(family.samples).map((sample) => line(name, sample.labels, sample.value));
  const head = [`# HELP ${name} ${escapeHelp(help)}`, `# TYPE ${name} ${type}`];
  return `${[...head, ...lines].join("\n")}\n`;
}

function sorted<S extends { readonly labels: MetricLabels }>(samples: readonly S[]): S[] {
  const keyed = samples.map((sample) => ({ sample, key: formatLabels(sample.labels) }));
  return keyed.toSorted((a, b) => compare(a.key, b.key)).map(({ sample }) => sample);
}

function distributionLines(name: string, sample: Distribution): string[] {
  const { labels, bounds, counts, sum, count } = sample;
  const buckets = bounds.map((bound, i) =>
    line(`${name}_bucket`, labels, counts[i] ?? 0, formatValue(bound)),
  );
  return [
    ...buckets,
    line(`${name}_bucket`, labels, count, "+Inf"),
    line(`${name}_sum`, labels, sum),
    line(`${name}_count`, labels, count),
  ];
}

function line(name: string, labels: MetricLabels, value: number, bound?: string): string {
  return `${name}${formatLabels(labels, bound)} ${formatValue(value)}`;
}

/** The bound of a bucket comes last, whatever the others are called. */
function formatLabels(labels: MetricLabels, bound?: string): string {
  const names = Object.keys(labels).toSorted(compare);
  const pairs = names.map((name) => `${name}="${escapeValue(labels[name] ?? "")}"`);
  if (bound !== undefined) pairs.push(`le="${bound}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escapeValue(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}

function escapeHelp(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

/** The shortest digits that read back the same; with an exponent below 1e-4 and from 1e6 on. */
export function formatValue(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  const [digits = "", power = "0"] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent >= -4 && exponent < 6) return String(value);
  const magnitude = String(Math.abs(exponent)).padStart(2, "0");
  return `${digits}e${exponent < 0 ? "-" : "+"}${magnitude}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
