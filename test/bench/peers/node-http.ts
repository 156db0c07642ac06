/** The floor of JSON over HTTP/1.1: what `node:http` alone does. The request is read, and nothing made of it. */
import { createServer } from "node:http";
import { jsonMessage } from "../echo.ts";
import { listenOn, type StartPeer } from "./peer.ts";

export const start: StartPeer = async () => {
  const server = createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on("data", (chunk: Buffer) => chunks.push(chunk));
    req.on("end", () => {
      const sent = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
      const status = sent?.length === jsonMessage.length ? 200 : 400;
      res.writeHead(status, { "content-type": "application/json", "content-length": jsonMessage.length });
      res.end(jsonMessage);
    });
  });
  return {
    port: await listenOn(server),
    async close() {
      server.closeAllConnections();
      server.close();
    },
  };
};
