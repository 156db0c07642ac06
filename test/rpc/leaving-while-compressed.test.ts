/** A client that leaves while its answer is being compressed: its call ran, is counted and has a row. */
import assert from "node:assert/strict";
import { pbkdf2 } from "node:crypto";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { Code } from "@connectrpc/connect";
import { createUserAndKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { Echo } from "./equality/services.ts";

let server: TestServer;
let token: string;
let answered: () => void;
/** The server's ends of its connections. */
const accepted: net.Socket[] = [];
before(async () => {
  server = await startServer(
    {},
    {
      routes(router) {
        router.rpc(Echo.method.call, () => {
          answered();
          return { text: "long enough to be compressed ".repeat(1000) };
        });
      },
    },
  );
  server.server.app.server.on("connection", (socket: net.Socket) => accepted.push(socket));
  token = (await createUserAndKey(server.asStaff, "leaver")).token;
});
after(() => server.close());

/** Keeps the threads busy that compress, until what is done meanwhile is done. */
async function whileNothingIsCompressed(run: () => Promise<void>): Promise<void> {
  let isDone = false;
  const keepBusy = async () => {
    while (!isDone) await promisify(pbkdf2)("p", "s", 20_000, 64, "sha512");
  };
  const threads = Number(process.env.UV_THREADPOOL_SIZE ?? 4);
  const busy = Array.from({ length: 4 * threads }, keepBusy);
  try {
    await run();
  } finally {
    isDone = true;
    await Promise.all(busy);
  }
}

const path = "/test.equality.Echo/Call";
const fieldsOf = (agent: string, encoding: string) => ({
  "content-type": "application/json",
  "accept-encoding": encoding,
  "user-agent": agent,
  "x-api-key": token,
});

/** Asks, and leaves as soon as the handler has answered. */
const leave: Record<string, (agent: string, encoding: string) => Promise<void>> = {
  async "HTTP/1.1"(agent, encoding) {
    const handled = new Promise<void>((resolve) => {
      answered = resolve;
    });
    const client = net.connect(server.port, "127.0.0.1");
    const fields = { host: "a", ...fieldsOf(agent, encoding), "content-length": 2 };
    const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
    client.write(`POST ${path} HTTP/1.1\r\n${lines.join("")}\r\n{}`);
    await handled;
    client.resetAndDestroy();
    await new Promise((resolve) => accepted.at(-1)?.once("close", resolve));
  },
  async "HTTP/2"(agent, encoding) {
    const handled = new Promise<void>((resolve) => {
      answered = resolve;
    });
    const session = http2.connect(server.url);
    const stream = session.request({ ":method": "POST", ":path": path, ...fieldsOf(agent, encoding) });
    stream.on("error", () => {});
    stream.end("{}");
    await handled;
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await once(stream, "close");
    // Answered after the reset, which it therefore has heard of.
    await new Promise((resolve) => session.ping(resolve));
    session.destroy();
  },
};

for (const [version, ask] of Object.entries(leave)) {
  for (const encoding of ["gzip", "br"]) {
    test(`over ${version}, in ${encoding}`, async () => {
      const agent = `leaver ${version} ${encoding}`;
      await whileNothingIsCompressed(() => ask(agent, encoding));
      const rows = await until(
        () =>
          server.sql`SELECT code, api_key_id IS NOT NULL AS has_key FROM request_logs WHERE user_agent = ${agent}`,
        (found) => found.length > 0,
      );
      assert.deepEqual(
        rows.map(({ has_key }) => has_key),
        [true],
      );
      // Connect's own handlers have ended the call before they compress.
      assert.ok([0, Code.Canceled].includes(rows[0]?.code), `its code is ${rows[0]?.code}`);
    });
  }
}
