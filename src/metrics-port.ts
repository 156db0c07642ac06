/**
 * Where Prometheus asks: a port of its own.
 *
 * Not a path of the main port, as what is there is meant for everyone who may call. Another
 * port can be kept from them by address, by the firewall or the orchestrator, without a
 * secret that the scraper would have to hold; it answers while the main one is full; and
 * the primary of several workers, which own no port, can answer for all of them.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { ConfigError } from "./config-parse.ts";
import { metricsText } from "./metrics.ts";
import type { Metric } from "./usage/metric.ts";

export interface MetricsPort {
  readonly address: AddressInfo;
  close(): Promise<void>;
}

export interface MetricsPortOptions {
  host: string;
  port: number;
  /** The figures of each server that is answered for; their labels must differ. */
  collect: () => Promise<readonly (readonly Metric[])[]>;
  onError: (message: string, error: unknown) => void;
}

/** Scrapers are few; whoever else comes must not pile up. */
const maxConnections = 64;

/** Opens the port. Rejects with a {@link ConfigError} where it cannot. */
export async function openMetricsPort(options: MetricsPortOptions): Promise<MetricsPort> {
  let rendering: ReturnType<typeof metricsText> | undefined;

  /** However many ask at the same time, it is done once. */
  function render(): ReturnType<typeof metricsText> {
    rendering ??= options
      .collect()
      .then(metricsText)
      .finally(() => {
        rendering = undefined;
      });
    return rendering;
  }

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const [path] = (req.url ?? "").split("?", 1);
    if (path !== "/metrics") return tell(res, 404, "there is only /metrics here\n");
    if (req.method !== "GET" && req.method !== "HEAD") {
      res.setHeader("allow", "GET, HEAD");
      return tell(res, 405, "GET /metrics\n");
    }
    try {
      const { contentType, text } = await render();
      tell(res, 200, text, contentType);
    } catch (error) {
      options.onError("metrics could not be collected", error);
      tell(res, 500, "the metrics could not be collected: see the server's log\n");
    }
  }

  const server = createServer(
    { maxHeaderSize: 8192, headersTimeout: 10_000, requestTimeout: 10_000, keepAliveTimeout: 120_000 },
    (req, res) => void answer(req, res),
  );
  server.maxConnections = maxConnections;
  const { host, port } = options;
  server.listen({ host, port });
  try {
    await once(server, "listening");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError(
      `cannot listen for Prometheus on ${host}:${port} (${reason}): set LATCHKEY_METRICS_HOST and LATCHKEY_METRICS_PORT`,
    );
  }
  server.on("error", (error) => options.onError("the metrics port failed", error));
  return {
    address: server.address() as AddressInfo,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

function tell(
  res: ServerResponse,
  status: number,
  text: string,
  contentType = "text/plain; charset=utf-8",
): void {
  res.writeHead(status, { "content-type": contentType, "cache-control": "no-store" }).end(text);
}
