/** Connections to the database that end, or fall silent, before they are ready: what waits for them is told. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { type TestContext, test } from "node:test";
import postgres from "postgres";
import { connect } from "../../src/db/client.ts";
import { finallyDo } from "../harness/finally-do.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { until } from "../harness/until.ts";

/** A connection is silent after 600 ms. */
const options = { max: 1, purpose: "start", statementTimeoutMs: 400 };

interface Listener {
  readonly address: string;
  connections: number;
}

/** Listens on a port until the test ends. */
async function listen(t: TestContext, serve: (socket: net.Socket, nth: number) => void): Promise<Listener> {
  const open = new Set<net.Socket>();
  const listener = { address: "", connections: 0 };
  const server = net.createServer((socket) => {
    open.add(socket.on("error", () => {}).on("close", () => open.delete(socket)));
    serve(socket, ++listener.connections);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  finallyDo(t, async () => {
    for (const socket of open) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  listener.address = `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  return listener;
}

function passTo(databaseUrl: string, socket: net.Socket): net.Socket {
  const upstream = net.connect(`${new URL(databaseUrl).searchParams.get("host")}/.s.PGSQL.5432`);
  upstream.on("error", () => {}).on("close", () => socket.destroy());
  socket.on("close", () => upstream.destroy());
  socket.pipe(upstream).pipe(socket);
  return upstream;
}

const endings: Record<string, readonly [serve: (socket: net.Socket) => void, code: string]> = {
  "says nothing": [() => {}, "CONNECTION_CLOSED"],
  "ends it at once": [(socket) => socket.end(), "CONNECTION_CLOSED"],
  "ends it when it has heard who is there": [
    (socket) => socket.once("data", () => socket.end()),
    "CONNECTION_CLOSED",
  ],
  "resets it": [(socket) => socket.once("data", () => socket.resetAndDestroy()), "ECONNRESET"],
  "says that it takes nobody, in pieces": [
    (socket) =>
      socket.once("data", () => {
        const text = "SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
        const message = Buffer.alloc(5 + text.length);
        message.write("E");
        message.writeInt32BE(4 + text.length, 1);
        message.write(text, 5);
        for (const byte of message) socket.write(Buffer.of(byte));
      }),
    "57P03",
  ],
};
for (const [what, [serve, code]] of Object.entries(endings)) {
  test(`a statement fails whose connection is to a server that ${what}, without a loop`, async (t) => {
    const listener = await listen(t, serve);
    const client = connect({ url: `postgres://latchkey@${listener.address}/keys` }, options);
    finallyDo(t, () => client.end({ timeout: 0 }));
    await assert.rejects(client`SELECT 1`, { code });
    assert.equal(listener.connections, 1);
  });
}

test("of several hosts one that says nothing keeps nobody from the one that takes writes, once it is there", async (t) => {
  const url = await createTestDatabase();
  const mute = await listen(t, () => {});
  let up = false;
  const primary = await listen(t, (socket) => (up ? passTo(url, socket) : socket.resetAndDestroy()));
  const hosts = `${mute.address},${primary.address}`;
  const client = connect({ url: `postgres://latchkey@${hosts}${new URL(url).pathname}` }, options);
  finallyDo(t, () => client.end({ timeout: 0 }));
  await assert.rejects(client`SELECT 1`);
  up = true;
  await until(
    () => client`SELECT 2 AS two`.catch(() => undefined),
    (rows) => rows?.[0]?.two === 2,
  );
});

test("after a session was ended within a statement, and the database refused for a while, nothing of that is told to later ones", async (t) => {
  const url = await createTestDatabase();
  const name = new URL(url).pathname.slice(1);
  const outside = openSql(process.env.TEST_POSTGRES_URL ?? "");
  const allow = (allowed: boolean) =>
    outside.unsafe(`ALTER DATABASE ${name} ALLOW_CONNECTIONS ${String(allowed)}`);
  finallyDo(t, () => outside.end());
  finallyDo(t, () => allow(true));
  const client = connect({ url }, { ...options, statementTimeoutMs: 0 });
  finallyDo(t, () => client.end({ timeout: 0 }));
  const session = async () => {
    const rows = await outside`
      SELECT pid FROM pg_stat_activity WHERE datname = ${name} AND state = 'active' AND query LIKE '%pg_sleep%'`;
    return rows[0]?.pid as number | undefined;
  };
  for (const refused of [false, true]) {
    const statement = client`SELECT pg_sleep(20)`;
    statement.catch(() => {});
    const pid = await until(session, (found) => found !== undefined);
    if (refused) await allow(false);
    await outside`SELECT pg_terminate_backend(${pid!})`;
    await assert.rejects(statement, { code: "57P01" });
    if (refused) {
      await assert.rejects(client`SELECT 1`, { code: "55000" });
      await allow(true);
    }
    assert.equal((await client`SELECT 3 AS three`)[0]?.three, 3);
  }
});

test("a statement that is cancelled fails as that, and nothing else does", async (t) => {
  const client = connect({ url: await createTestDatabase() }, { ...options, max: 2, statementTimeoutMs: 0 });
  finallyDo(t, () => client.end({ timeout: 0 }));
  const uncaught: unknown[] = [];
  const note = (error: unknown) => uncaught.push(error);
  process.on("unhandledRejection", note);
  finallyDo(t, async () => process.off("unhandledRejection", note));
  const statement = client`SELECT pg_sleep(20)`;
  const cancelled = assert.rejects(statement, { code: "57014" });
  await until(
    () => client`SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(20)'`,
    ({ length }) => length === 1,
  );
  statement.cancel();
  await cancelled;
  await until(client.connections, (n) => n === 2);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(uncaught, []);
});

test("the password of a program's client may be slow, and may fail: the statement is told", async (t) => {
  const url = await createTestDatabase();
  const listener = await listen(t, (socket) => passTo(url, socket));
  const [host, port] = listener.address.split(":");
  let asked = 0;
  const own = postgres({
    host: host!,
    port: Number(port),
    database: new URL(url).pathname.slice(1),
    username: "latchkey",
    async password() {
      await new Promise((resolve) => setTimeout(resolve, 50));
      if (++asked === 1) throw new Error("the vault is sealed");
      return "hunter2";
    },
  });
  const client = connect({ client: own }, options);
  finallyDo(t, () => client.end({ timeout: 0 }));
  await assert.rejects(client`SELECT 1`, /the vault is sealed/);
  assert.equal(listener.connections, 0);
  assert.equal((await client`SELECT 4 AS four`)[0]?.four, 4);
  assert.equal(asked, 2);
});

test("a client that ends while it waits for a host ends at once, and connects no more", async (t) => {
  const listener = await listen(t, () => {});
  const client = connect(
    { url: `postgres://latchkey@${listener.address}/keys` },
    { ...options, statementTimeoutMs: 0 },
  );
  const statement = client`SELECT 1`;
  statement.catch(() => {});
  await until(() => listener.connections, Boolean);
  await client.end({ timeout: 0 });
  await assert.rejects(statement, { code: /^CONNECTION_(DESTROYED|ENDED|CLOSED)$/ });
  assert.equal(client.connections(), 0);
  assert.equal(listener.connections, 1);
});
