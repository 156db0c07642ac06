/** Memory that a connection costs which has made a call and is idle. */
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectTcp } from "node:net";
import { echoPath, grpcFrame, jsonMessage, type Protocol } from "./echo.ts";
import { inTurn, type SectionContext } from "./load-rounds.ts";
import { type PeerProcess, startPeer } from "./peer-process.ts";
import { figure, table } from "./table.ts";

const section = "memory";
const connections = 1000;
/** New processes each: it hardly differs between them. */
const mostRounds = 3;
const ids: Readonly<Record<Protocol, readonly string[]>> = {
  grpc: ["http2", "stock", "batched"],
  json: ["http", "stock", "batched"],
};

export async function measureIdleConnections(context: SectionContext): Promise<string> {
  const { results, surroundings, say } = context;
  const measured = (["grpc", "json"] as const).flatMap((protocol) =>
    context.peers.filter(({ id }) => ids[protocol].includes(id)).map((peer) => ({ peer, protocol })),
  );
  const rounds = Math.min(context.rounds, mostRounds);
  for (let round = 1; round <= rounds; round++) {
    for (const { peer, protocol } of inTurn(measured, round)) {
      const process = await startPeer(peer, protocol, surroundings);
      try {
        const values = await measureOnce(process);
        results.add({ section, subject: peer.id, variant: protocol, round, values });
      } finally {
        await process.close();
      }
    }
    say(`memory: round ${round} of ${rounds}`);
  }
  return table(
    [`an idle connection, of ${connections}`, "bytes of the heap", "bytes of the process"],
    measured.map(({ peer, protocol }) => [
      `${peer.name}, ${protocol === "grpc" ? "gRPC" : "HTTP/1.1"}`,
      ...["heap", "resident"].map((value) =>
        figure(results.median({ section, subject: peer.id, variant: protocol, value })),
      ),
    ]),
  );
}

/** Bytes a connection. */
async function measureOnce(peer: PeerProcess): Promise<Record<string, number>> {
  const open = peer.protocol === "grpc" ? openGrpc : openJson;
  // What a first call compiles and keeps is nobody's in particular.
  for (let n = 0; n < 50; n++) (await open(peer)).destroy();
  const before = await peer.memory();
  const opened: { destroy(): void }[] = [];
  try {
    while (opened.length < connections) opened.push(await open(peer));
    const after = await peer.memory();
    return {
      heap: (after.heap - before.heap) / connections,
      resident: (after.resident - before.resident) / connections,
    };
  } finally {
    for (const connection of opened) connection.destroy();
  }
}

async function openGrpc({ url, token }: PeerProcess): Promise<{ destroy(): void }> {
  const session = connectHttp2(url);
  session.on("error", () => {});
  const stream = session.request({
    ...{ ":method": "POST", ":path": echoPath, "content-type": "application/grpc", te: "trailers" },
    "x-api-key": token,
  });
  stream.resume();
  stream.end(grpcFrame);
  const [trailers] = await once(stream, "trailers");
  if (trailers["grpc-status"] !== "0") throw new Error(`grpc-status is ${trailers["grpc-status"]}`);
  await once(stream, "close");
  return session;
}

async function openJson({ url, token }: PeerProcess): Promise<{ destroy(): void }> {
  const { hostname, port, host } = new URL(url);
  const socket = connectTcp(Number(port), hostname);
  socket.on("error", () => {});
  const head = [
    ...[`POST ${echoPath} HTTP/1.1`, `host: ${host}`, "content-type: application/json"],
    ...[`content-length: ${jsonMessage.length}`, `x-api-key: ${token}`],
  ];
  socket.write(`${head.join("\r\n")}\r\n\r\n${jsonMessage}`);
  let answer = "";
  while (!answer.includes(jsonMessage.toString())) {
    const [chunk] = await once(socket, "data");
    answer += chunk;
  }
  if (!answer.startsWith("HTTP/1.1 200 ")) throw new Error(`the answer is ${answer.split("\r\n", 1)}`);
  return socket;
}
