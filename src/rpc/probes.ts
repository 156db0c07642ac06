/** `/healthz` and `/readyz`: what orchestrators and load balancers ask over HTTP, without a credential. */
import type { FastifyInstance, FastifyReply } from "fastify";
import type { Health } from "./health.ts";

/**
 * Mounts both. They say no more than yes (200) or no (503):
 *
 * - `/healthz`, the process answers. It asks nobody else: an orchestrator that restarted
 *   every server because the database is away would make it worse.
 * - `/readyz`, calls are served: the database answers and the server is not stopping. As
 *   `grpc.health.v1.Health` says of the service "".
 */
export function mountProbes(app: FastifyInstance, health: Health): void {
  app.get("/healthz", (_req, reply) => answer(reply, true, "ok"));
  app.get("/readyz", (_req, reply) =>
    health.isServing() ? answer(reply, true, "ready") : answer(reply, false, "not ready"),
  );
}

function answer(reply: FastifyReply, isGood: boolean, text: string): FastifyReply {
  return reply
    .code(isGood ? 200 : 503)
    .header("cache-control", "no-store")
    .type("text/plain; charset=utf-8")
    .send(`${text}\n`);
}
