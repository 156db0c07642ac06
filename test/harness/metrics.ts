/** What a server shows to Prometheus. */
import assert from "node:assert/strict";
import type { AddressInfo } from "node:net";

export interface Scrape {
  readonly text: string;
  /** The value of a series, written as in the text: `name{label="value"}`; undefined: it is not there. */
  value(series: string): number | undefined;
  /** The sum of a metric's series whose labels are among others'. */
  sum(name: string, labels?: Readonly<Record<string, string>>): number;
  /** Every label's values. */
  readonly labels: ReadonlyMap<string, ReadonlySet<string>>;
}

export function metricsUrl({ port }: AddressInfo): string {
  return `http://127.0.0.1:${port}/metrics`;
}

export async function scrape(url: string): Promise<Scrape> {
  const response = await fetch(url);
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  const text = await response.text();
  const series = new Map<string, number>();
  const labels = new Map<string, Set<string>>();
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const at = line.lastIndexOf(" ");
    assert.ok(!series.has(line.slice(0, at)), `${line} comes twice`);
    series.set(line.slice(0, at), Number(line.slice(at + 1).replace("Inf", "Infinity")));
    for (const [, name = "", value = ""] of line.matchAll(/(\w+)="([^"]*)"/g)) {
      labels.set(name, (labels.get(name) ?? new Set()).add(value));
    }
  }
  return {
    text,
    labels,
    value: (name) => series.get(name),
    sum(name, wanted = {}) {
      const asked = Object.entries(wanted).map(([label, value]) => `${label}="${value}"`);
      return [...series]
        .filter(([key]) => key === name || key.startsWith(`${name}{`))
        .filter(([key]) => asked.every((label) => key.includes(label)))
        .reduce((sum, [, value]) => sum + value, 0);
    },
  };
}
