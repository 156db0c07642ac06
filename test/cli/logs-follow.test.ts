/** `latchkey logs --follow`: each row once, in whatever way the connection fares. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { parse } from "csv-parse/sync";
import { jsonLines, newHome, type Started, tableRows } from "../harness/cli.ts";
import { secretKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

const onlyGetUser = ["--method", "api.users.UserService/GetUser"];

function follow(t: TestContext, server: TestServer, ...args: string[]): Started {
  const home = newHome({ LATCHKEY_SERVER: server.url, LATCHKEY_TOKEN: secretKey });
  const started = home.start(["logs", "--follow", ...onlyGetUser, ...args]);
  t.after(() => started.child.kill("SIGKILL"));
  return started;
}

/** Calls until what follows has shown a row: from then on it misses none. Returns how many calls were made. */
async function callUntilShown(server: TestServer, started: Started): Promise<void> {
  await until(
    async () => {
      await server.asStaff.users.getUser({ userId: 1n });
      return started.stdout();
    },
    (text) => text.trimEnd().includes("\n") || text.includes("}\n"),
  );
}

const idsIn = (text: string) => jsonLines(text).map(({ id }) => id);

async function idsInLog(server: TestServer): Promise<string[]> {
  const { requestLogs } = await server.asStaff.logs.listRequestLogs({ filter: { method: "GetUser" } });
  return requestLogs.map(({ id }) => id);
}

test("logs --follow shows calls as they are made, in their order, until it is interrupted", async (t) => {
  const server = await startServer();
  t.after(() => server.close());
  await server.asStaff.users.getUser({ userId: 2n });
  const started = follow(t, server);
  await callUntilShown(server, started);
  await server.asStaff.users.getUser({ userId: 4711n }).catch(() => {});
  const rows = await until(
    () => tableRows(started.stdout()),
    (found) => found.at(-1)?.CODE === "not_found",
  );
  assert.ok(rows.every(({ METHOD }) => METHOD === "api.users.UserService/GetUser"));
  const times = rows.map(({ TIME }) => TIME);
  assert.deepEqual(times, times.toSorted());
  assert.equal(started.stderr(), "");
  started.child.kill("SIGINT");
  await started.exited;
});

test("logs --follow --since begins with what was, and shows every row once", async (t) => {
  const server = await startServer();
  t.after(() => server.close());
  for (let i = 0; i < 5; i++) await server.asStaff.users.getUser({ userId: 1n });
  await until(
    () => idsInLog(server),
    ({ length }) => length === 5,
  );
  const started = follow(t, server, "--since", "1h", "--json");
  await until(
    () => idsIn(started.stdout()).length,
    (count) => count === 5,
  );
  for (let i = 0; i < 5; i++) await server.asStaff.users.getUser({ userId: 1n });
  await until(
    () => idsIn(started.stdout()).length,
    (count) => count >= 10,
  );
  assert.deepEqual(idsIn(started.stdout()).slice(0, 5), (await idsInLog(server)).reverse().slice(0, 5));
  assert.deepEqual(idsIn(started.stdout()).toSorted(), (await idsInLog(server)).toSorted());
});

test("logs --follow goes on after a restart of the server, with the rows in between, each once", async (t) => {
  const first = await startServer();
  const started = follow(t, first, "--json");
  await callUntilShown(first, started);
  const { databaseUrl, port } = first;
  await first.close();
  await until(started.stderr, (text) => /is lost/.test(text));
  const second = await startServer({ databaseUrl, port: 0 });
  await second.asStaff.users.getUser({ userId: 1n });
  await until(
    () => second.asStaff.logs.listRequestLogs({ filter: { method: "GetUser" }, pageSize: 1 }),
    ({ requestLogs }) => requestLogs[0]?.instanceId !== "",
  );
  await second.close();
  const third = await startServer({ databaseUrl, port });
  t.after(() => third.close());
  await until(started.stderr, (text) => /is reached again/.test(text));
  await third.asStaff.users.getUser({ userId: 1n });
  const all = await until(
    () => idsInLog(third),
    ({ length }) => length >= 3,
  );
  const [oldest] = idsIn(started.stdout());
  const shown = await until(
    () => idsIn(started.stdout()),
    (ids) => ids.length >= all.indexOf(String(oldest)) + 1,
  );
  // Rows of one moment may come in another order than the listing's.
  assert.deepEqual(shown.toSorted(), all.slice(0, all.indexOf(String(oldest)) + 1).toSorted());
  assert.equal(started.child.exitCode, null);
});

test("logs --follow --csv writes what the export would", async (t) => {
  const server = await startServer();
  t.after(() => server.close());
  const started = follow(t, server, "--csv");
  await callUntilShown(server, started);
  await server.asStaff.users.getUser({ userId: 4711n }).catch(() => {});
  await until(started.stdout, (text) => text.includes("user 4711 not found"));
  const exported = await newHome({ LATCHKEY_SERVER: server.url, LATCHKEY_TOKEN: secretKey }).latchkey([
    ...["logs", "--csv", ...onlyGetUser],
  ]);
  const [head, ...lines] = started.stdout().trimEnd().split("\r\n");
  const [exportedHead, ...exportedLines] = exported.stdout.trimEnd().split("\r\n");
  assert.equal(head, exportedHead);
  assert.ok(lines.length > 1);
  assert.deepEqual(lines.toSorted(), exportedLines.slice(0, lines.length).toSorted());
  assert.ok(parse(started.stdout(), { columns: true }).length === lines.length);
});

test("logs --follow fails at once where no server answers, or it may not", async (t) => {
  const server = await startServer();
  t.after(() => server.close());
  const home = newHome({ LATCHKEY_TOKEN: secretKey });
  const nobody = await home.latchkey(["logs", "--follow", "--server", "http://127.0.0.1:1"]);
  assert.deepEqual([nobody.code, nobody.stdout], [6, ""]);
  const unknown = await home.latchkey(["logs", "--follow", "--server", server.url], {
    env: { LATCHKEY_TOKEN: "nobody-knows-this" },
  });
  assert.deepEqual([unknown.code, unknown.stdout], [3, ""]);
});
