/** Stock Connect on Fastify, alone or behind a guard that is an interceptor. */
import type { AddressInfo } from "node:net";
import type { Interceptor } from "@connectrpc/connect";
import { fastifyConnectPlugin } from "@connectrpc/connect-fastify";
import Fastify, { type FastifyInstance } from "fastify";
import { implementation } from "../echo.ts";
import type { PeerJob, StartPeer } from "./peer.ts";

/** Something that says who calls, with the one key that it knows. */
export interface Guard {
  readonly token: string;
  readonly interceptor: Interceptor;
  close(): Promise<unknown>;
}

type CreateGuard = (job: PeerJob) => Promise<Guard>;

/** The option `guard` names the module of a guard. */
export const start: StartPeer = async (job) => {
  const guard = await createGuard(job);
  // Fastify serves one of the two on a plain port.
  const app = job.protocol === "grpc" ? (Fastify({ http2: true }) as unknown as FastifyInstance) : Fastify();
  const sessions = new Set<{ destroy(): void }>();
  app.server.on("session", (session) => sessions.add(session));
  await app.register(fastifyConnectPlugin, {
    routes: (router) => router.service(job.service, implementation),
    interceptors: guard === undefined ? [] : [guard.interceptor],
  });
  await app.listen({ host: "127.0.0.1", port: 0 });
  return {
    port: (app.server.address() as AddressInfo).port,
    token: guard?.token,
    async close() {
      // Else it waits for them for ever.
      for (const session of sessions) session.destroy();
      await app.close();
      await guard?.close();
    },
  };
};

async function createGuard(job: PeerJob): Promise<Guard | undefined> {
  const { guard } = job.options;
  if (guard === undefined) return undefined;
  const module = (await import(`./${guard}.ts`)) as { createGuard: CreateGuard };
  return module.createGuard(job);
}
