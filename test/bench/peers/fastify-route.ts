/** A plain JSON route of Fastify, with the schemas that its documentation advises. */
import type { AddressInfo } from "node:net";
import Fastify from "fastify";
import { echoPath } from "../echo.ts";
import type { StartPeer } from "./peer.ts";

const schema = { type: "object", properties: { name: { type: "string" } } };

export const start: StartPeer = async () => {
  const app = Fastify();
  app.post<{ Body: { name: string } }>(
    echoPath,
    { schema: { body: schema, response: { 200: schema } } },
    async (request) => ({ name: request.body.name }),
  );
  await app.listen({ host: "127.0.0.1", port: 0 });
  return { port: (app.server.address() as AddressInfo).port, close: () => app.close() };
};
