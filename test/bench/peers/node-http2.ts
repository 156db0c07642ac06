/** The floor of gRPC: what `node:http2` alone does. The request is read and the answer framed as gRPC has it. */
import { createServer, type ServerHttp2Session } from "node:http2";
import { grpcFrame } from "../echo.ts";
import { listenOn, type StartPeer } from "./peer.ts";

export const start: StartPeer = async () => {
  const server = createServer();
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
  });
  server.on("stream", (stream) => {
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      const sent = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
      if (sent?.length !== grpcFrame.length) return stream.close();
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(grpcFrame);
    });
    stream.on("error", () => {});
  });
  return {
    port: await listenOn(server),
    async close() {
      for (const session of sessions) session.destroy();
      server.close();
    },
  };
};
