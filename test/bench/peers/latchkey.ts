/** Latchkey as a program mounts it, in production's settings, with those of the peer's entry. */
import type { DescService } from "@bufbuild/protobuf";
import { createServer, type ServerOptions } from "../../../src/server.ts";
import { infrastructure } from "../../../src/services.ts";
import { createFirstKey } from "../bench-keys.ts";
import { implementation } from "../echo.ts";
import type { StartPeer } from "./peer.ts";

/** Options: the server's own, and `unrecorded`: calls are neither counted nor logged. */
export const start: StartPeer = async (job) => {
  const { unrecorded, ...options } = job.options as ServerOptions & { unrecorded?: boolean };
  const token = await createFirstKey(job.databaseUrl);
  // There is no setting for it: the service is passed over as health is.
  if (unrecorded) (infrastructure as DescService[]).push(job.service);
  const server = await createServer({
    ...{ production: true, databaseUrl: job.databaseUrl, dataDir: job.directory, port: 0, logLevel: "error" },
    ...options,
    routes: (router) => router.service(job.service, implementation),
  });
  const { port } = await server.listen();
  return { port, token, close: () => server.close() };
};
