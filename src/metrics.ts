/** What Prometheus is told of a server: read where it stands, when it is asked for. */
import type { Registry } from "@prometheus-io/client";
import type { PoolFigures } from "./db/pool-figures.ts";
import type { Listener } from "./listener.ts";
import type { Health } from "./rpc/health.ts";
import type { MountedRpcs } from "./rpc/mount.ts";
import { byLabel, counter, gauge, type Metric, type Metrics } from "./usage/metric.ts";
import type { Unpacking } from "./usage/unpack.ts";
import type { Verdicts } from "./verdicts.ts";

export interface MetricsOptions {
  version: string;
  listener: Listener;
  rpcs: MountedRpcs;
  verdicts: Pick<Verdicts, "grants" | "fence" | "streams">;
  usage: {
    readonly droppedRows: number;
    readonly pendingCalls: number;
    readonly oldestPendingMs: number | undefined;
  };
  packs: Pick<Unpacking, "waitingRows" | "droppedRows">;
  pools: { readonly figures: readonly PoolFigures[] };
  /** Of the request log. */
  tails: { readonly size: number };
  health: Health;
  /** Those that count while calls end. */
  counted: readonly { collect(): Metric[] }[];
}

export function createMetrics(options: MetricsOptions): Metrics {
  return {
    async collect() {
      const counted = options.counted.flatMap((metrics) => metrics.collect());
      return [
        gauge("latchkey_info", "1; the version is its label.", 1, { version: options.version }),
        gauge("latchkey_ready", "1 while calls are served: see /readyz.", Number(options.health.isServing())),
        ...counted,
        ...connectionMetrics(options),
        ...verdictMetrics(options),
        ...usageMetrics(options),
        ...poolMetrics(options),
        ...(await processMetrics()),
      ];
    },
  };
}

function connectionMetrics({ listener, rpcs, verdicts, tails }: MetricsOptions): Metric[] {
  const { connections, http1Connections, sessions } = listener;
  return [
    gauge("latchkey_rpcs_running", "RPCs that run.", rpcs.running),
    counter("latchkey_rpcs_refused_total", "RPCs refused because too many ran.", rpcs.refused),
    gauge("latchkey_open_streams", "Streams held open by a credential.", verdicts.streams.size),
    gauge("latchkey_log_tails", "Streams that follow the request log.", tails.size),
    byLabel("gauge", "latchkey_connections", "Open connections.", "protocol", [
      ["http1", http1Connections],
      ["http2", sessions],
      ["undecided", Math.max(0, connections - http1Connections - sessions)],
    ]),
  ];
}

function verdictMetrics({ verdicts }: MetricsOptions): Metric[] {
  const { fence, grants } = verdicts;
  const { hits, misses, entries, waiting } = grants.figures;
  const staleMs = performance.now() - fence.provenAtMs();
  return [
    byLabel("counter", "latchkey_cache_lookups_total", "Keys and sessions looked for in memory.", "result", [
      ["hit", hits],
      ["miss", misses],
    ]),
    gauge("latchkey_cache_entries", "Keys and sessions in memory.", entries),
    gauge("latchkey_lookups_waiting", "Look-ups of keys that wait for a statement.", waiting),
    gauge(
      "latchkey_fence_fresh",
      "1 while every change is heard, and keys in memory are used.",
      Number(fence.isFresh()),
    ),
    gauge(
      "latchkey_fence_staleness_seconds",
      "How old the last proof is that every change was heard.",
      staleMs / 1000,
    ),
  ];
}

function usageMetrics({ usage, packs }: MetricsOptions): Metric[] {
  const { oldestPendingMs, pendingCalls, droppedRows } = usage;
  const lagMs = oldestPendingMs === undefined ? 0 : Math.max(0, performance.now() - oldestPendingMs);
  return [
    gauge(
      "latchkey_usage_lag_seconds",
      "How long the oldest call that is not committed has waited.",
      lagMs / 1000,
    ),
    gauge("latchkey_usage_pending_calls", "Calls that are not committed yet.", pendingCalls),
    counter(
      "latchkey_usage_dropped_rows_total",
      "Request log rows dropped; their calls are counted.",
      droppedRows + packs.droppedRows,
    ),
    gauge(
      "latchkey_log_waiting_rows",
      "Request log rows of all instances that are kept, but not laid out yet: as of the last look at them.",
      packs.waitingRows,
    ),
  ];
}

function poolMetrics({ pools }: MetricsOptions): Metric[] {
  const { figures } = pools;
  const busy = (statements: number, max: number) => Math.min(statements, max);
  return [
    byLabel(
      "gauge",
      "latchkey_database_connections",
      "Open connections to the database.",
      "pool",
      figures.flatMap(({ purpose, connections }) =>
        connections === undefined ? [] : [[purpose, connections] as const],
      ),
    ),
    byLabel(
      "gauge",
      "latchkey_database_connections_max",
      "Connections that a pool may open.",
      "pool",
      figures.map((pool) => [pool.purpose, pool.max] as const),
    ),
    byLabel(
      "gauge",
      "latchkey_database_connections_busy",
      "Connections that a statement or transaction runs on.",
      "pool",
      figures.map((pool) => [pool.purpose, busy(pool.statements, pool.max)] as const),
    ),
    byLabel(
      "gauge",
      "latchkey_database_statements_waiting",
      "Statements and transactions that wait for a connection.",
      "pool",
      figures.map((pool) => [pool.purpose, pool.statements - busy(pool.statements, pool.max)] as const),
    ),
  ];
}

/** The client is loaded by who shows metrics, and by nobody else. */
const loadClient = () => import("@prometheus-io/client");
/** One for all servers of the process: what it listens to does not end. */
let ofProcess: Promise<Registry> | undefined;

/** CPU, memory, descriptors, event loop and garbage collection of this process, by the names that dashboards know. */
export async function processMetrics(): Promise<Metric[]> {
  ofProcess ??= loadClient().then(({ collectDefaultMetrics, Registry }) => {
    const register = new Registry();
    collectDefaultMetrics({ register });
    return register;
  });
  const metrics = await (await ofProcess).getMetricsAsJSON();
  return metrics.map(({ name, help, type, values }) => ({ name, help, type, values }) as unknown as Metric);
}

/** The text of metrics, of several servers too, whose labels differ. */
export async function metricsText(
  ofServers: readonly (readonly Metric[])[],
): Promise<{ contentType: string; text: string }> {
  const { Registry } = await loadClient();
  const registry = Registry.aggregate([...ofServers]);
  return { contentType: registry.contentType, text: await registry.metrics() };
}
