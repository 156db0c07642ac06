/** DATABASE_URL with several hosts. */
import assert from "node:assert/strict";
import net from "node:net";
import { test } from "node:test";
import { connect } from "../../src/db/client.ts";
import { hostsOf } from "../../src/db/database-url.ts";
import { findPrimary } from "../../src/db/primary.ts";
import { closedPort } from "../harness/closed-port.ts";
import { createTestDatabase } from "../harness/postgres.ts";

const options = { max: 1, purpose: "test", statementTimeoutMs: 1000 };

for (const [url, expected] of [
  ["postgres://db", [["postgres://db:5432", { host: "db", port: 5432 }]]],
  ["postgres://u:p@db:1/keys?a=b", [["postgres://u:p@db:1/keys?a=b", { host: "db", port: 1 }]]],
  [
    "postgresql://u@a:1,b/keys?target_session_attrs=any&sslmode=require",
    [
      ["postgresql://u@a:1/keys?sslmode=require", { host: "a", port: 1 }],
      ["postgresql://u@b:5432/keys?sslmode=require", { host: "b", port: 5432 }],
    ],
  ],
  ["postgres://[::1]:7/keys", [["postgres://localhost:7/keys", { host: "::1", port: 7 }]]],
  [
    "postgres://u@/keys?host=/var/run",
    [["postgres://u@localhost:5432/keys", { path: "/var/run/.s.PGSQL.5432" }]],
  ],
] as const) {
  test(`the hosts of ${url}`, () => {
    assert.deepEqual(
      hostsOf(url).map((host) => [host.url, host.place]),
      expected,
    );
  });
}

test("a statement fails, and does not wait for ever, while none of several hosts answers", async () => {
  const [a, b] = [await closedPort(), await closedPort()];
  const client = connect({ url: `postgres://latchkey@127.0.0.1:${a},127.0.0.1:${b}/keys` }, options);
  for (let n = 0; n < 3; n++) await assert.rejects(client`SELECT 1`, { code: "ECONNREFUSED" });
  await client.end({ timeout: 1 });
});

test("of several hosts one that is down is passed over", async (t) => {
  const direct = new URL(await createTestDatabase());
  const server = net.createServer((socket) => {
    const upstream = net.connect(`${direct.searchParams.get("host")}/.s.PGSQL.5432`);
    for (const end of [socket, upstream]) end.on("error", () => {});
    socket.pipe(upstream).pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const { port } = server.address() as net.AddressInfo;
  const client = connect(
    { url: `postgres://latchkey@127.0.0.1:${await closedPort()},127.0.0.1:${port}${direct.pathname}` },
    options,
  );
  const [row] = await client`SELECT current_database() AS name`;
  assert.equal(row?.name, direct.pathname.slice(1));
  await client.end({ timeout: 1 });
});

test("a host that takes no writes is not the one, and where there is no other that is what is said", async () => {
  assert.equal(await findPrimary(["a", "b"], async (host) => host === "b")(), "b");
  await assert.rejects(findPrimary(["a", "b"], async () => false)(), { code: "READ_ONLY" });
  const find = findPrimary(["a", "b"], async (host) => {
    if (host === "a") throw new Error("gone");
    return false;
  });
  await assert.rejects(find(), { code: "READ_ONLY" });
});
