/** From the start of a process to its first answer over gRPC: Latchkey as `npm start` has it, with a key of its database. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import { createFirstKey } from "./bench-keys.ts";
import type { SectionContext } from "./load-rounds.ts";
import { onServer } from "./machine.ts";
import { startPeer } from "./peer-process.ts";
import { figure, table } from "./table.ts";

const section = "start";
const startTimeoutMs = 60_000;

export async function measureColdStart(context: SectionContext): Promise<string> {
  const { surroundings, results, rounds, say } = context;
  const databaseUrl = await surroundings.createDatabase();
  const token = await createFirstKey(databaseUrl);
  const env = { LATCHKEY_DATA_DIR: join(surroundings.directory, "started") };
  const production = { ...env, NODE_ENV: "production", DATABASE_URL: databaseUrl };
  const starts: { id: string; name: string; start: () => Promise<number> }[] = [
    {
      ...{ id: "latchkey", name: "Latchkey, Postgres running" },
      start: () => startServer(surroundings.places, production, token),
    },
    {
      ...{ id: "embedded", name: "Latchkey, with its embedded Postgres, of which the data is there" },
      // In development, where there is a user to be read.
      start: () => startServer(surroundings.places, env, undefined),
    },
    ...context.peers
      .filter(({ id }) => id === "stock" || id === "http2")
      .map((peer) => ({
        ...{ id: peer.id, name: peer.name },
        async start() {
          const began = performance.now();
          const process = await startPeer(peer, "grpc", surroundings);
          await process.verify();
          const ms = performance.now() - began;
          await process.close();
          return ms;
        },
      })),
  ];
  // The first one makes the embedded database, and fills the cache of files.
  for (let round = 0; round <= rounds; round++) {
    for (const { id, start } of round % 2 === 0 ? starts : starts.toReversed()) {
      const ms = await start();
      if (round > 0) results.add({ section, subject: id, variant: "grpc", round, values: { ms } });
    }
    if (round > 0) say(`start: round ${round} of ${rounds}`);
  }
  return table(
    ["from the start of the process to its first answer", "ms"],
    starts.map(({ id, name }) => [
      name,
      figure(results.median({ section, subject: id, variant: "grpc", value: "ms" })),
    ]),
  );
}

/** Starts a server, calls it once and ends it. Returns the milliseconds until it answered. */
async function startServer(
  places: { server: string; load: string },
  env: Record<string, string>,
  token: string | undefined,
): Promise<number> {
  const began = performance.now();
  const [command, args] = onServer(places, [process.execPath, "src/main.ts"]);
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(command, args, {
    env: { PATH, HOME, PORT: "0", LATCHKEY_LOG_LEVEL: "error", ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  try {
    const url = await listening(child.stdout, exited);
    await call(url, token);
    return performance.now() - began;
  } finally {
    child.kill("SIGTERM");
    await exited;
  }
}

/** The URL that its banner says. */
async function listening(stdout: NodeJS.ReadableStream, exited: Promise<void>): Promise<string> {
  let banner = "";
  const printed = new Promise<string>((resolve) => {
    stdout.setEncoding("utf8").on("data", (text: string) => {
      banner += text;
      const [url] = banner.match(/http:\/\/[\d.]+:\d+/) ?? [];
      if (url !== undefined) resolve(url);
    });
  });
  const ended = exited.then(() => undefined);
  const late = new Promise<undefined>((resolve) => {
    setTimeout(() => resolve(undefined), startTimeoutMs).unref();
  });
  const url = await Promise.race([printed, ended, late]);
  if (url === undefined) throw new Error(`the server does not start; it said:\n${banner}`);
  return url;
}

/** Reads a user, with a token where there is one. */
async function call(url: string, token: string | undefined): Promise<void> {
  const sessionManager = new Http2SessionManager(url);
  const transport = createGrpcTransport({ baseUrl: url, sessionManager });
  try {
    const headers: Record<string, string> = token === undefined ? {} : { "x-api-key": token };
    await createClient(UserService, transport).getUser({ userId: 1n }, { headers });
  } finally {
    sessionManager.abort();
  }
}
