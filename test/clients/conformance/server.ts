/** The program that the conformance suite starts: our server, made as the message on standard input asks. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { newDirectory, startServer } from "../../harness/server.ts";
import { readContract } from "./schema.ts";
import { conformanceService } from "./service.ts";

const { CONFORMANCE_CONTRACT = "", DATABASE_URL } = process.env;
const contract = readContract(CONFORMANCE_CONTRACT);
// Each message has its length before it, in four bytes.
const asked = fromBinary(contract.serverCompatRequest, (await buffer(process.stdin)).subarray(4));

const directory = newDirectory();
const { serverCreds } = asked;
const tls =
  asked.useTls && serverCreds
    ? { tlsCert: written("cert.pem", serverCreds.cert), tlsKey: written("key.pem", serverCreds.key) }
    : {};
const latchkey = await startServer(
  { ...tls, databaseUrl: DATABASE_URL, maxMessageBytes: asked.messageReceiveLimit },
  {
    routes(router) {
      // What was seen is told as google.protobuf.Any, which JSON needs types for.
      router.service(contract.service, conformanceService(contract), {
        jsonOptions: { registry: contract.registry },
        // The suite limits what is received alone; what it sees, it is sent back, which is more.
        writeMaxBytes: 4 * asked.messageReceiveLimit,
      });
    },
  },
);
process.once("SIGTERM", async () => {
  await latchkey.close();
  process.exit();
});

const answer = toBinary(
  contract.serverCompatResponse,
  create(contract.serverCompatResponse, {
    host: "127.0.0.1",
    port: latchkey.port,
    ...(tls.tlsCert !== undefined && serverCreds && { pemCert: serverCreds.cert }),
  }),
);
const length = Buffer.alloc(4);
length.writeUInt32BE(answer.length);
process.stdout.write(Buffer.concat([length, answer]));

function written(name: string, content: Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}
