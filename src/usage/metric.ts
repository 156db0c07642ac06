/** Figures in the form that Prometheus is told them. */

/** As the Prometheus client's registries give and take metrics. */
export interface Metric {
  /** By Prometheus' conventions, its unit at the end. */
  readonly name: string;
  /** One sentence, for people. */
  readonly help: string;
  /** What Prometheus takes it for. */
  readonly type: "counter" | "gauge" | "histogram" | "summary";
  /** One for each set of labels; of a histogram one for each part. */
  readonly values: readonly Sample[];
}

/** One value of a metric. */
export interface Sample {
  /** Of a histogram's parts: the metric's name and "_bucket", "_sum" or "_count". */
  readonly metricName?: string;
  /** What tells it from the metric's others. */
  readonly labels: Labels;
  /** In the unit that the metric's name says. */
  readonly value: number;
}

/** Names and values; never what a caller chose. */
export type Labels = Readonly<Record<string, string | number>>;

export function gauge(name: string, help: string, value: number, labels: Labels = {}): Metric {
  return { name, help, type: "gauge", values: [{ labels, value }] };
}

export function counter(name: string, help: string, value: number, labels: Labels = {}): Metric {
  return { name, help, type: "counter", values: [{ labels, value }] };
}

/** A gauge or counter with one label, from its values. */
export function byLabel(
  type: "counter" | "gauge",
  name: string,
  help: string,
  label: string,
  values: Iterable<readonly [labelValue: string, value: number]>,
): Metric {
  const samples = [...values].map(([labelValue, value]) => ({ labels: { [label]: labelValue }, value }));
  return { name, help, type, values: samples };
}

/** Counts of values by their upper bounds. To observe one makes nothing: calls may do it. */
export class Buckets {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  /** Bounds in ascending order. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = Array(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let i = 0;
    while (i < bounds.length && value > (bounds[i] as number)) i++;
    this.#counts[i] = (this.#counts[i] as number) + 1;
    this.#sum += value;
  }

  /** Of the histogram with this name; none while nothing was observed. */
  samples(name: string, labels: Labels): Sample[] {
    let count = 0;
    const buckets = this.#counts.map((inBucket, i) => {
      count += inBucket;
      const le = this.#bounds[i] ?? "+Inf";
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: count };
    });
    if (count === 0) return [];
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: this.#sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  }
}

/** The figures of a server. */
export interface Metrics {
  /** All figures of this server and its process, as of now. */
  collect(): Promise<Metric[]>;
}
