/** How long the recorder's commits take, and how many fail. */
import { Buckets, counter, type Metric } from "./metric.ts";
import type { WriteUsage } from "./store.ts";

export interface CommitMetrics {
  /** The same writer, watched. */
  watch(write: WriteUsage): WriteUsage;
  collect(): Metric[];
}

/** In seconds. */
const bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const name = "latchkey_usage_commit_duration_seconds";

export function createCommitMetrics(): CommitMetrics {
  const durations = new Buckets(bounds);
  let failed = 0;

  return {
    watch: (write) => async (batch) => {
      const startedMs = performance.now();
      try {
        await write(batch);
        durations.observe((performance.now() - startedMs) / 1000);
      } catch (error) {
        failed++;
        throw error;
      }
    },
    collect: () => [
      {
        name,
        help: "How long commits of usage took that went well.",
        type: "histogram",
        values: durations.samples(name, {}),
      },
      counter(
        "latchkey_usage_commit_failures_total",
        "Commits of usage that failed; they are tried again.",
        failed,
      ),
    ],
  };
}
