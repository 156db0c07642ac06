/** Addresses of databases, and what is taken over from a program's client. */
import assert from "node:assert/strict";
import { test } from "node:test";
import postgres from "postgres";
import { describeAddress, hostsAt, urlOf } from "../../src/db/address.ts";

const password = () => "asked for each time";
const ssl = { rejectUnauthorized: true, ca: "PEM" };
const socket = () => {};

/** What a program may open its client with, and the places that it is then connected to. */
const clients: Record<string, [given: postgres.Sql, places: unknown[]]> = {
  "a URL": [postgres("postgres://ada:s%40cret@db:5433/keys"), [{ host: "db", port: 5433 }]],
  "a URL of several hosts": [
    postgres("postgres://ada@one,two:5433/keys?target_session_attrs=primary"),
    [
      { host: "one", port: 5432 },
      { host: "two", port: 5433 },
    ],
  ],
  "a password function and TLS": [
    postgres({ host: "db", database: "keys", username: "ada", password, ssl }),
    [{ host: "db", port: 5432 }],
  ],
  "a socket's path": [postgres({ path: "/run/pg/socket", database: "keys" }), [{ path: "/run/pg/socket" }]],
  "a socket's folder": [postgres({ host: "/run/pg", port: 5433 }), [{ path: "/run/pg/.s.PGSQL.5433" }]],
  "sockets of its own": [postgres({ host: "db", socket } as object), [undefined]],
  "settings of its sessions": [
    postgres({ host: "db", prepare: false, connection: { search_path: "keys" } as object }),
    [{ host: "db", port: 5432 }],
  ],
};

for (const [name, [client, places]] of Object.entries(clients)) {
  test(`a client with ${name} is connected as that one is, and reads values its own way`, () => {
    const given = client.options as unknown as Record<string, unknown>;
    const hosts = hostsAt({ client });
    assert.deepEqual(
      hosts.map(({ place }) => place),
      places,
    );
    hosts.forEach(({ open, place, own }, i) => {
      const settings = { max: 1, connection: { application_name: "latchkey" } };
      const derived = open(settings).options as unknown as Record<string, unknown>;
      for (const option of ["database", "user", "pass", "ssl", "sslnegotiation", "socket", "path"]) {
        assert.equal(derived[option], given[option], option);
      }
      if (place !== undefined && "host" in place) {
        assert.deepEqual([derived.host, derived.port], [[place.host], [place.port]], `host ${i}`);
      }
      assert.deepEqual(derived.connection, settings.connection);
      assert.deepEqual(own, { connection: given.connection, prepare: given.prepare });
    });
  });
}

test("how a client transforms and reads values is its own affair", () => {
  const types = { big: { to: 20, from: [20], parse: () => "theirs", serialize: String } };
  const client = postgres({ host: "db", transform: postgres.camel, types, debug: () => {} });
  const [{ open }] = hostsAt({ client: client as unknown as postgres.Sql });
  const derived = open({}).options as unknown as Record<string, unknown>;
  const plain = postgres({ host: "db" }).options as unknown as Record<string, unknown>;
  for (const option of ["transform", "types", "debug"])
    assert.deepEqual(derived[option], plain[option], option);
  assert.deepEqual(Object.keys(derived.parsers as object), Object.keys(plain.parsers as object));
});

test("a database is described without user and password", () => {
  const client = postgres("postgres://ada:hunter2@one,two:5433/keys");
  assert.equal(describeAddress({ client }), "Postgres at one:5432,two:5433, database keys");
  const url = "postgres://ada:hunter2@one,two:5433/keys?sslmode=require";
  assert.equal(describeAddress({ url }), "Postgres at one,two:5433, database keys");
  assert.equal(describeAddress({ url: "postgres:///keys" }), "Postgres at localhost, database keys");
});

test("a program's client has no URL: it is not for other processes", () => {
  assert.throws(() => urlOf({ client: postgres({ host: "db" }) }), /no URL/);
});
