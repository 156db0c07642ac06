/** A connection that is lost within a transaction fails the transaction, not the process. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, before, test } from "node:test";
import { sql } from "drizzle-orm";
import type postgres from "postgres";
import { connect, database, type Executor } from "../../src/db/client.ts";
import { isLoss } from "../../src/db/lost-connection.ts";
import { finallyDo } from "../harness/finally-do.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { startStatements } from "../harness/statements.ts";
import { until } from "../harness/until.ts";

let url: string;
let admin: postgres.Sql;
before(async () => {
  url = await createTestDatabase();
  admin = openSql(url);
});
after(() => admin.end());

const running = async () => {
  const rows = await admin`SELECT pid, state FROM pg_stat_activity WHERE application_name = 'latchkey lost'`;
  return rows[0];
};

let closed: PromiseWithResolvers<void>;

/** Ends the session of the transaction and waits until the client knows. */
async function cut(): Promise<void> {
  const session = await running();
  await admin`SELECT pg_terminate_backend(${session?.pid})`;
  await closed.promise;
  // Then the transaction hears of it.
  await new Promise((resolve) => setImmediate(resolve));
}

const work: Record<string, (tx: Executor) => Promise<unknown>> = {
  "while a statement runs": async (tx) => {
    const statement = tx.execute(sql`SELECT pg_sleep(20)`).then(() => {});
    await until(running, (session) => session?.state === "active");
    await Promise.all([statement, cut()]);
  },
  "between two statements": async (tx) => {
    await cut();
    await tx.execute(sql`SELECT 1`);
  },
  "before its commit": cut,
  "though the failure is passed over": async (tx) => {
    await cut();
    await tx.execute(sql`SELECT 1`).catch(() => {});
    await tx.execute(sql`SELECT 2`).catch(() => {});
  },
};

for (const [when, run] of Object.entries(work)) {
  test(`a transaction rejects whose connection is lost ${when}, and the client connects again`, async () => {
    closed = Promise.withResolvers();
    const client = connect(
      { url },
      { max: 1, purpose: "lost", statementTimeoutMs: 0, onClose: () => closed.resolve() },
    );
    const db = database(client);
    try {
      await assert.rejects(
        db.transaction(async (tx) => {
          await tx.execute(sql`SELECT 0`);
          await run(tx);
        }),
      );
      await until(
        () => db.execute<{ n: number }>(sql`SELECT 3 AS n`).then(([row]) => row?.n, String),
        (answer) => answer === 3,
      );
      await db.transaction(async (tx) => {
        assert.equal((await tx.execute<{ n: number }>(sql`SELECT 4 AS n`))[0]?.n, 4);
      });
      await assert.rejects(
        db.transaction(async () => {
          throw new Error("of one's own");
        }),
        /of one's own/,
      );
    } finally {
      await client.end({ timeout: 1 });
    }
  });
}

/** How the other side may end a connection. */
const endings: Record<string, (socket: net.Socket) => unknown> = {
  ended: (socket) => socket.end(),
  reset: (socket) => socket.resetAndDestroy(),
};

for (const [how, end] of Object.entries(endings)) {
  test(`while statements go out in every turn, a connection is ${how}: each settles, none waits for a new connection in vain`, async (t) => {
    const directory = new URL(url).searchParams.get("host");
    const open = new Set<net.Socket>();
    const link = net.createServer((socket) => {
      open.add(socket);
      const upstream = net.connect(`${directory}/.s.PGSQL.5432`).on("error", () => {});
      socket
        .on("error", () => {})
        .on("close", () => {
          open.delete(socket);
          upstream.destroy();
        });
      socket.pipe(upstream).pipe(socket);
    });
    await once(link.listen(0, "127.0.0.1"), "listening");
    finallyDo(t, () => new Promise((resolve) => link.close(resolve)));
    const { port } = link.address() as net.AddressInfo;
    const through = { url: `postgres://latchkey@127.0.0.1:${port}${new URL(url).pathname}` };
    const client = connect(through, { max: 1, purpose: "turns", statementTimeoutMs: 0 });
    finallyDo(t, () => client.end({ timeout: 0 }));
    const load = startStatements(client);
    finallyDo(t, async () => load.stop());
    for (let round = 0; round < 10; round++) {
      await load.answered(50);
      assert.equal(open.size, 1);
      for (const socket of open) end(socket);
    }
    await load.settled();
    assert.ok(load.failures.size > 0, "statements were lost");
    for (const code of load.failures.keys()) assert.match(code, /^(CONNECTION_CLOSED|ECONNRESET)$/);
  });
}

test("a connection that is lost as it begins, before a server that lets nobody in yet, rejects where it was asked", async (t) => {
  const name = new URL(url).pathname.slice(1);
  const directory = new URL(url).searchParams.get("host");
  // No database shuts itself.
  const outside = openSql(process.env.TEST_POSTGRES_URL ?? "");
  finallyDo(t, () => outside.end());
  const allow = (allowed: boolean) =>
    outside.unsafe(`ALTER DATABASE ${name} ALLOW_CONNECTIONS ${String(allowed)}`);
  const uncaught: unknown[] = [];
  const note = (error: unknown) => uncaught.push(error);
  process.on("unhandledRejection", note);
  finallyDo(t, async () => {
    process.off("unhandledRejection", note);
    await allow(true);
  });
  let connections = 0;
  const pass = (client: net.Socket, from: Buffer) => {
    const upstream = net.connect(`${directory}/.s.PGSQL.5432`);
    upstream.on("error", () => {});
    upstream.write(from);
    client.pipe(upstream).pipe(client);
    client.on("close", () => upstream.destroy());
  };
  const link = net.createServer((client) => {
    const nth = ++connections;
    client.on("error", () => {});
    client.once("data", async (startup: Buffer) => {
      client.pause();
      // The first ends with the first statement that it is sent; then, once, the database refuses.
      if (nth === 2) await allow(false);
      if (nth === 3) await allow(true);
      pass(client, startup);
      if (nth === 1) client.once("data", () => client.destroy());
      client.resume();
    });
  });
  await once(link.listen(0, "127.0.0.1"), "listening");
  finallyDo(t, () => new Promise((resolve) => link.close(resolve)));

  const { port } = link.address() as net.AddressInfo;
  const through = { url: `postgres://latchkey@127.0.0.1:${port}/${name}` };
  const client = connect(through, { max: 1, purpose: "begins", statementTimeoutMs: 0 });
  finallyDo(t, () => client.end({ timeout: 0 }));
  const ask = () => database(client).execute(sql`SELECT 1 AS one`);
  await until(
    () => ask().catch(() => []),
    ([row]) => row?.one === 1,
  );
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(connections, 3);
  assert.deepEqual(uncaught, []);
});

/** Passes all on, but from a statement on what the server says until its end, which comes in one piece. */
async function startHoarder(direct: string, from: string): Promise<{ url: string; close: () => void }> {
  const socket = `${new URL(direct).searchParams.get("host")}/.s.PGSQL.5432`;
  const server = net.createServer((client) => {
    const upstream = net.connect(socket);
    let hoard: Buffer[] | undefined;
    client.on("data", (bytes) => {
      if (bytes.includes(from)) hoard = [];
      upstream.write(bytes);
    });
    upstream.on("data", (bytes) => {
      if (hoard === undefined) client.write(bytes);
      else hoard.push(bytes);
    });
    upstream.on("end", () => client.end(Buffer.concat(hoard ?? [])));
    for (const each of [client, upstream]) each.on("error", () => {});
    client.on("close", () => upstream.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  const { pathname } = new URL(direct);
  return { url: `postgres://latchkey@127.0.0.1:${port}${pathname}`, close: () => server.close() };
}

test("a session that ends in the moment of an answer fails the transaction that goes on from it", async (t) => {
  const hoarder = await startHoarder(url, "'the last'");
  t.after(hoarder.close);
  const client = connect({ url: hoarder.url }, { max: 1, purpose: "hoarded", statementTimeoutMs: 10_000 });
  t.after(() => client.end({ timeout: 1 }));
  for (let n = 0; n < 5; n++) {
    const transaction = client.begin(async (tx) => {
      const [session] = await tx`SELECT pg_backend_pid() AS pid`;
      const last = tx`SELECT 'the last'`.then(async () => {
        // In the same turn of the event loop as the end.
        for (let ticks = 0; ticks < n; ticks++) await undefined;
        await tx`SELECT 'one more'`;
      });
      await until(
        () =>
          admin`SELECT FROM pg_stat_activity WHERE pid = ${session?.pid} AND query = ${"SELECT 'the last'"} AND state <> 'active'`,
        ({ length }) => length === 1,
      );
      await Promise.all([last, admin`SELECT pg_terminate_backend(${session?.pid})`]);
    });
    await assert.rejects(transaction, (error: Error) => isLoss(error));
    await client`SELECT 1`;
  }
});
