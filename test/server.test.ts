/** What a program gives to `createServer`: its plugins, interceptors, routes and database client. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { before, describe, test } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import postgres from "postgres";
import { principalKey } from "../src/auth/principal.ts";
import { createServer, type ServerOptions } from "../src/server.ts";
import { callAll, compileTableServices, implement, type Kind, methodOf } from "./auth/table-services.ts";
import { createTestDatabase, openSql } from "./harness/postgres.ts";
import { noteSecret } from "./harness/secrets.ts";
import { clientsOf, createUserAndKey, newDirectory, secretKey, startServer } from "./harness/server.ts";
import { until } from "./harness/until.ts";

let compiled: Record<string, DescService>;
before(() => {
  compiled = compileTableServices();
});

const echo = implement((asked) => asked);
const kinds: readonly Kind[] = ["Unary", "Down", "Up", "Both"];

async function create(options: ServerOptions) {
  const database = options.sql === undefined ? { databaseUrl: await createTestDatabase() } : {};
  return createServer({
    ...database,
    dataDir: newDirectory(),
    secretKey: noteSecret(secretKey),
    logLevel: "silent",
    ...options,
  });
}

function codeOf(error: unknown): string {
  return Code[ConnectError.from(error).code];
}

describe("own interceptors", () => {
  test("run after authentication, in their order, for own and Latchkey's services, and refuse with a code that is logged", async () => {
    const seen: string[] = [];
    const note =
      (name: string): Interceptor =>
      (next) =>
      (req) => {
        seen.push(`${name} ${req.method.name} ${req.contextValues.get(principalKey)?.username}`);
        return next(req);
      };
    const noUploads: Interceptor = (next) => (req) => {
      if (req.method.name === "Up") throw new ConnectError("no uploads today", Code.FailedPrecondition);
      return next(req);
    };
    const latchkey = await startServer(
      {},
      {
        interceptors: [note("first"), note("second"), noUploads],
        routes: (router) => void router.service(compiled.Authenticated!, echo),
      },
    );
    try {
      const { token, apiKeyId } = await createUserAndKey(latchkey.asStaff, "ada");
      seen.length = 0;
      const ada = latchkey.server.transport({ token });
      assert.deepEqual(await callAll(ada, methodOf(compiled.Authenticated, "Unary"), { text: "hi" }), ["hi"]);
      assert.deepEqual(seen.splice(0), ["first Unary ada", "second Unary ada"]);
      await clientsOf(ada).keys.listApiKeys({});
      assert.deepEqual(seen.splice(0), ["first ListApiKeys ada", "second ListApiKeys ada"]);

      // What was refused does not reach them.
      const anonymous = latchkey.server.transport();
      for (const kind of kinds) {
        await assert.rejects(
          callAll(anonymous, methodOf(compiled.Authenticated, kind)),
          (error) => codeOf(error) === "Unauthenticated",
        );
      }
      assert.deepEqual(seen, []);

      await assert.rejects(
        callAll(ada, methodOf(compiled.Authenticated, "Up")),
        (error) => codeOf(error) === "FailedPrecondition",
      );
      const rows = await until(
        () =>
          latchkey.sql`SELECT code, error_message FROM request_logs WHERE method = 'Up' AND api_key_id = ${apiKeyId}`,
        (found) => found.length > 0,
      );
      assert.deepEqual([...rows], [{ code: Code.FailedPrecondition, error_message: "no uploads today" }]);
      const { apiKey } = await latchkey.asStaff.keys.getApiKey({ id: apiKeyId });
      assert.equal(apiKey?.requestCount, 3n);
    } finally {
      await latchkey.close();
    }
  });
});

describe("own plugins", () => {
  test("bring routes, decorators and hooks; their onRequest hooks see RPCs, and are closed with the server", async () => {
    const asked: string[] = [];
    let closed = 0;
    const latchkey = await startServer(
      {},
      {
        async plugins(app) {
          app.addHook("onRequest", async (req) => void asked.push(req.url));
          app.addHook("onClose", async () => void closed++);
          await app.register(async (scope) => {
            scope.get("/hello", async () => ({ hello: "you" }));
            scope.post("/echo", async (req) => req.body);
          });
        },
      },
    );
    try {
      const hello = await fetch(`${latchkey.url}/hello`);
      assert.deepEqual(await hello.json(), { hello: "you" });
      const body = JSON.stringify({ of: "theirs" });
      const headers = { "content-type": "application/json" };
      const echoed = await fetch(`${latchkey.url}/echo`, { method: "POST", body, headers });
      assert.equal(await echoed.text(), body);
      assert.equal((await latchkey.server.app.inject("/hello")).statusCode, 200);
      await latchkey.asStaff.keys.listApiKeys({});
      assert.deepEqual(asked, ["/hello", "/echo", "/hello", "/latchkey.v1.ApiKeyService/ListApiKeys"]);
    } finally {
      await latchkey.close();
    }
    assert.equal(closed, 1);
  });

  test("that fail refuse to start, and nothing is left open", async () => {
    const databaseUrl = await createTestDatabase();
    let closed = 0;
    await assert.rejects(
      create({
        databaseUrl,
        plugins(app) {
          app.addHook("onClose", async () => void closed++);
          throw new Error("their plugin is broken");
        },
      }),
      /their plugin is broken/,
    );
    assert.equal(closed, 1);
    await assertNoConnections(databaseUrl);
  });
});

describe("requireDeclaredAccess", () => {
  const start = (options: ServerOptions, services: string[]) =>
    create({
      ...options,
      routes(router) {
        for (const name of services) router.service(compiled[name]!, echo);
      },
    });

  test("refuses to start where methods declare nothing, and names all of them", async () => {
    const databaseUrl = await createTestDatabase();
    const options = { requireDeclaredAccess: true, databaseUrl };
    await assert.rejects(start(options, ["Undeclared", "Public", "Staff"]), (error: Error) => {
      assert.equal(error.name, "ConfigError");
      assert.match(
        error.message,
        /^these methods declare no access: test\.access\.Undeclared\/Unary, test\.access\.Undeclared\/Down, test\.access\.Undeclared\/Up, test\.access\.Undeclared\/Both\. Say in their proto/,
      );
      return true;
    });
    await assertNoConnections(databaseUrl);
  });

  test("what is listed as public, or declared by the service alone, is declared", async () => {
    const publicMethods = ["test.access.Undeclared/*"];
    for (const options of [
      { requireDeclaredAccess: true, publicMethods },
      { requireDeclaredAccess: false },
    ]) {
      const server = await start(options, Object.keys(compiled));
      await server.close();
    }
  });

  test("Latchkey's own services declare theirs, reflection included", async () => {
    const server = await create({ requireDeclaredAccess: true, reflection: true });
    await server.close();
  });
});

describe("a program's own postgres.js client", () => {
  /** How a program would connect to the database of tests. */
  async function clientOptions(): Promise<postgres.Options<Record<string, never>>> {
    const { searchParams, pathname, username } = new URL(await createTestDatabase());
    return { host: searchParams.get("host")!, database: pathname.slice(1), username };
  }
  const calls = async (transport: Transport) => clientsOf(transport).keys.listApiKeys({});

  test("says where the database is; it is not ended, not used, and reads values as it did", async () => {
    const options = await clientOptions();
    const statements: string[] = [];
    const sql = postgres({
      ...options,
      max: 1,
      transform: postgres.camel,
      debug: (_connection, query) => void statements.push(query),
      connection: { search_path: "public" },
    });
    const server = await create({ sql: sql as postgres.Sql });
    assert.match(server.databaseDescription, new RegExp(`database ${options.database}$`));
    await calls(server.transport({ token: secretKey }));
    assert.deepEqual(statements, []);
    await server.close();
    const [row] = await sql`SELECT now() AS the_time, 1::bigint AS a_number`;
    assert.ok(row?.theTime instanceof Date);
    assert.equal(row.aNumber, "1");
    await sql.end();
  });

  test("tells of its own sockets, which all connections are opened through", async () => {
    const { host, ...options } = await clientOptions();
    let sockets = 0;
    const sql = postgres({
      ...options,
      max: 1,
      socket: async () => {
        sockets++;
        const socket = connect(`${host}/.s.PGSQL.5432`);
        await once(socket, "connect");
        return socket;
      },
    } as postgres.Options<Record<string, never>>);
    const server = await create({ sql: sql as postgres.Sql });
    await calls(server.transport({ token: secretKey }));
    assert.ok(sockets >= 5, `${sockets} sockets`);
    await server.close();
    await sql.end();
  });
});

/** All that a server opened of a database is closed, as Postgres sees it. */
async function assertNoConnections(databaseUrl: string): Promise<void> {
  const sql = openSql(databaseUrl);
  await until(
    async () => {
      const [row] = await sql`
        SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'latchkey %'`;
      return row?.count;
    },
    (count) => count === 0,
  );
  await sql.end();
}
