/**
 * The figures of all workers, each with a label of its own.
 *
 * They are not added up here: a worker that is replaced begins at nothing, and a sum that
 * drops looks to Prometheus like a counter that began anew, with all that is left of it
 * counted again. With a label each, only that worker's do, and a query adds them up. The
 * label is the worker's place, which its successor takes over: there are never more.
 */
import type { ChildProcess } from "node:child_process";
import { processMetrics } from "../metrics.ts";
import { gauge, type Metric } from "../usage/metric.ts";
import type { ToWorker } from "./worker-messages.ts";

export interface WorkerMetrics {
  /** The figures of every worker that answers in time, and of this process. */
  collect(): Promise<Metric[][]>;
  /** A worker has answered. */
  onAnswer(id: number, metrics: readonly Metric[]): void;
}

/** One that hangs must not keep the others' from being shown; Prometheus waits 10 s. */
const answerTimeoutMs = 2000;

export function createWorkerMetrics(workers: ReadonlyMap<ChildProcess, number>): WorkerMetrics {
  const asked = new Map<number, (metrics: readonly Metric[] | undefined) => void>();
  let lastId = 0;

  function ask(worker: ChildProcess): Promise<readonly Metric[] | undefined> {
    const id = ++lastId;
    return new Promise<readonly Metric[] | undefined>((resolve) => {
      const timer = setTimeout(resolve, answerTimeoutMs, undefined);
      asked.set(id, (metrics) => {
        clearTimeout(timer);
        resolve(metrics);
      });
      const message: ToWorker = { kind: "metrics", id };
      if (worker.connected) worker.send(message, () => {});
      else asked.get(id)?.(undefined);
    }).finally(() => asked.delete(id));
  }

  async function ofWorker(worker: ChildProcess, place: number): Promise<Metric[]> {
    const metrics = await ask(worker);
    const up = gauge(
      "latchkey_worker_up",
      "1 for a worker that answered when it was asked for its figures.",
      metrics === undefined ? 0 : 1,
    );
    return [up, ...(metrics ?? [])].map((metric) => labelled(metric, String(place)));
  }

  return {
    async collect() {
      const own = (await processMetrics()).map((metric) => labelled(metric, "primary"));
      return Promise.all([...[...workers].map(([worker, place]) => ofWorker(worker, place)), own]);
    },
    onAnswer: (id, metrics) => asked.get(id)?.(metrics),
  };
}

function labelled(metric: Metric, worker: string): Metric {
  const values = metric.values.map((sample) => ({ ...sample, labels: { ...sample.labels, worker } }));
  return { ...metric, values };
}
