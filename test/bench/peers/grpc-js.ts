/** `@grpc/grpc-js` as its documentation has it: the proto loaded at the start, no authentication. */
import {
  loadPackageDefinition,
  Server,
  ServerCredentials,
  type ServiceClientConstructor,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { StartPeer } from "./peer.ts";

const proto = new URL("../proto/echo.proto", import.meta.url).pathname;

export const start: StartPeer = async () => {
  const loaded = loadPackageDefinition(loadSync(proto)) as unknown as {
    bench: { v1: { EchoService: ServiceClientConstructor } };
  };
  const server = new Server();
  server.addService(loaded.bench.v1.EchoService.service, {
    echo: (
      call: { request: { name: string } },
      answer: (error: null, response: { name: string }) => void,
    ) => {
      answer(null, { name: call.request.name });
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { port, close: async () => server.forceShutdown() };
};
