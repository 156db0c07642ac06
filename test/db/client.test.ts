/** DATABASE_URL in the forms that people write it in. */
import assert from "node:assert/strict";
import net from "node:net";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { connect, database } from "../../src/db/client.ts";
import { createTestDatabase } from "../harness/postgres.ts";

const options = { max: 1, purpose: "test", statementTimeoutMs: 1000 };

async function nameOf(url: string): Promise<unknown> {
  const client = connect({ url }, options);
  try {
    const [row] = await database(client).execute(sql`SELECT current_database() AS name`);
    return row?.name;
  } finally {
    await client.end({ timeout: 1 });
  }
}

test("a URL may name the directory of a unix socket", async () => {
  const url = await createTestDatabase();
  assert.match(url, /\?host=/);
  assert.equal(await nameOf(url), new URL(url).pathname.slice(1));
});

for (const host of ["127.0.0.1", "[::1]"]) {
  test(`a URL may name ${host}`, async (t) => {
    const url = new URL(await createTestDatabase());
    const directory = url.searchParams.get("host");
    const server = net.createServer((socket) => {
      const upstream = net.connect(`${directory}/.s.PGSQL.5432`);
      socket.pipe(upstream).pipe(socket);
    });
    const bound = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(0, host.replace(/[[\]]/g, ""), () => resolve(true));
    });
    if (!bound) return t.skip(`${host} is no address of this machine`);
    t.after(() => server.close());
    const { port } = server.address() as net.AddressInfo;
    const name = url.pathname.slice(1);
    assert.equal(await nameOf(`postgres://latchkey@${host}:${port}/${name}`), name);
  });
}

test("arrays are read as they were written, whatever is in them", async () => {
  const client = connect({ url: await createTestDatabase() }, options);
  const db = database(client);
  const texts = ["", "a", "a,b", 'a"b', "a\\b", "\\", "\\\\", "{}", "NULL", " a ", "\n", "ä", "a}", "'"];
  try {
    for (const [type, values] of [
      ["text", texts],
      ["text", []],
      ["text", ["a", null]],
      ["integer", [1, -2, null]],
      ["smallint", [1]],
      ["bigint", ["9007199254740993"]],
      ["uuid", ["0199c1f4-0000-7000-8000-000000000000"]],
      ["inet", ["203.0.113.7", "2001:db8::1"]],
    ] as const) {
      const [row] = await db.execute(sql`
        SELECT ${sql.param(values)}::${sql.raw(type)}[] AS values,
          to_json(${sql.param(values)}::${sql.raw(type)}[]) AS seen_by_postgres`);
      assert.deepEqual(row?.values, values);
      if (type !== "bigint") assert.deepEqual(row?.seen_by_postgres, values);
    }
  } finally {
    await client.end({ timeout: 1 });
  }
});
