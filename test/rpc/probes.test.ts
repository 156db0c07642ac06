/** `/healthz` and `/readyz`, over both versions of HTTP and with TLS. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { request } from "node:http";
import http2 from "node:http2";
import { request as requestTls } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { pem } from "../harness/pem.ts";
import { breakDatabase } from "../harness/postgres.ts";
import { newDirectory, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { Fixture, fixtureClient, type Protocol, protocols } from "./protocols.ts";

type Probe = (path: string, method?: string) => Promise<[status: number, body: string, type: string]>;

let latchkey: TestServer;
before(async () => {
  const directory = newDirectory();
  const [tlsCert, tlsKey] = [join(directory, "cert"), join(directory, "key")];
  writeFileSync(tlsCert, pem.cert);
  writeFileSync(tlsKey, pem.key);
  latchkey = await startServer({ requireAuth: true, tlsCert, tlsKey });
});
after(() => latchkey.close());

const overHttp1: Probe = (path, method = "GET") => http1(`http://127.0.0.1:${latchkey.port}${path}`, method);

async function http1(url: string, method = "GET") {
  const req = (url.startsWith("https") ? requestTls : request)(url, {
    method,
    rejectUnauthorized: false,
  }).end();
  const [res] = await once(req, "response");
  return [res.statusCode, await text(res), res.headers["content-type"]] as [number, string, string];
}

async function http2Probe(authority: string, path: string, method = "GET") {
  const session = http2.connect(authority, { rejectUnauthorized: false });
  try {
    const stream = session.request({ ":path": path, ":method": method });
    const [headers] = await once(stream, "response");
    return [headers[":status"], await text(stream), headers["content-type"]] as [number, string, string];
  } finally {
    session.destroy();
  }
}

const probes: Record<string, Probe> = {
  "HTTP/1.1": overHttp1,
  "HTTP/1.1 with TLS": (path, method) => http1(`https://127.0.0.1:${latchkey.port}${path}`, method),
  "HTTP/2": (path, method) => http2Probe(`http://127.0.0.1:${latchkey.port}`, path, method),
  "HTTP/2 with TLS": (path, method) => http2Probe(`https://127.0.0.1:${latchkey.port}`, path, method),
};

for (const [over, probe] of Object.entries(probes)) {
  test(`over ${over}, both say yes to anyone, though methods need a key, and no more than that`, async () => {
    const type = "text/plain; charset=utf-8";
    assert.deepEqual(await probe("/healthz"), [200, "ok\n", type]);
    assert.deepEqual(await probe("/readyz?verbose"), [200, "ready\n", type]);
    assert.deepEqual(await probe("/readyz", "HEAD"), [200, "", type]);
    assert.equal((await probe("/readyz", "POST"))[0], 404);
    assert.equal((await probe("/healthz/database"))[0], 404);
  });
}

test("while the database does not answer, the process is alive and not ready, and ready again by itself", async () => {
  const server = await startServer();
  const ask = (path: string) => http1(`${server.url}${path}`);
  try {
    assert.equal((await ask("/readyz"))[0], 200);
    const mend = await breakDatabase(server);
    const [, body] = await until(
      () => ask("/readyz"),
      ([status]) => status === 503,
    );
    assert.equal(body, "not ready\n");
    assert.equal((await ask("/healthz"))[0], 200);
    await mend();
    await until(
      () => ask("/readyz"),
      ([status]) => status === 200,
    );
  } finally {
    await server.close();
  }
});

test("a server that stops is alive and no longer ready, while its calls finish", async () => {
  const [begun, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const server = await startServer(
    {},
    {
      routes(router) {
        router.service(Fixture, {
          async unary() {
            begun.resolve();
            await held.promise;
            return {};
          },
        });
      },
    },
  );
  const running = fixtureClient(server, protocols[0] as Protocol).unary({});
  await begun.promise;
  const closing = server.server.close();
  // As by a connection that it still has: it takes no new one.
  const { app } = server.server;
  const [ready, alive] = await Promise.all(["/readyz", "/healthz"].map((path) => app.inject(path)));
  assert.deepEqual([ready?.statusCode, ready?.body], [503, "not ready\n"]);
  assert.equal(alive?.statusCode, 200);
  await assert.rejects(http1(`${server.url}/readyz`), { code: "ECONNREFUSED" });
  held.resolve();
  await running;
  await closing;
  await server.sql.end();
});
