/** `latchkey logs`: the request log as a table, CSV and JSON. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { parse } from "csv-parse/sync";
import { v7 as uuidv7 } from "uuid";
import { type Home, jsonLines, newHome, tableRows } from "../harness/cli.ts";
import { packHeld } from "../harness/packed.ts";
import { createUserAndKey, secretKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { callOf } from "../usage/batches.ts";

let server: TestServer;
let home: Home;
let caller: { userId: bigint; apiKeyId: string; token: string };
before(async () => {
  server = await startServer();
  home = newHome({ LATCHKEY_SERVER: server.url, LATCHKEY_TOKEN: secretKey });
  caller = await createUserAndKey(server.asStaff, "caller");
  const { users } = server.as(caller.token);
  for (let i = 0; i < 3; i++) await users.getUser({ userId: 1n });
  await users.getUser({ userId: 4711n }).catch(() => {});
  await users.deleteUser({ userId: 1n }).catch(() => {});
  await until(
    async () =>
      (await server.asStaff.logs.listRequestLogs({ filter: { apiKeyId: caller.apiKeyId } })).requestLogs,
    ({ length }) => length === 5,
  );
});
after(() => server.close());

test("logs shows the newest calls first, each with what became of it", async () => {
  const { code, stdout, stderr } = await home.latchkey(["logs", "--key", caller.apiKeyId]);
  assert.deepEqual([code, stderr], [0, ""]);
  const rows = tableRows(stdout);
  assert.deepEqual(
    rows.map(({ METHOD, CODE, KEY }) => [METHOD, CODE, KEY]),
    [
      ["api.users.UserService/DeleteUser", "permission_denied", caller.apiKeyId],
      ["api.users.UserService/GetUser", "not_found", caller.apiKeyId],
      ...Array(3).fill(["api.users.UserService/GetUser", "ok", caller.apiKeyId]),
    ],
  );
  assert.match(rows[0]?.ERROR ?? "", /^staff-required: /);
  assert.match(rows[1]?.ERROR ?? "", /^user 4711 not found/);
  assert.match(rows[0]?.TIME ?? "", /^20\d\d-\d\d-\d\dT[\d:.]+Z$/);
});

test("each filter leaves the calls that it names", async () => {
  const of = ["logs", "--user", "caller"];
  const counts: readonly (readonly [readonly string[], number])[] = [
    [[], 5],
    [["--errors"], 2],
    [["--code", "ok"], 3],
    [["--denial", "staff-required"], 1],
    [["--method", "GetUser"], 4],
    [["--method", "api.users.UserService/DeleteUser"], 1],
    [["--service", "latchkey.v1.ApiKeyService"], 0],
    [["--since", "1h"], 5],
    [["--until", "1h"], 0],
    [["--since", "2020-01-01", "--until", "2020-01-02T12:00Z"], 0],
    [["--min-duration", "1h"], 0],
    [["--max-duration", "1h"], 5],
    [["--protocol", "connect"], 5],
    [["--protocol", "grpc"], 0],
    [["--address", "127.0.0.0/8"], 5],
    [["--address", "203.0.113.7"], 0],
    [["--text", "4711"], 1],
  ];
  // A user has no more than ten exports at once.
  for (let i = 0; i < counts.length; i += 6) {
    await Promise.all(
      counts.slice(i, i + 6).map(async ([filter, count]) => {
        const { code, stdout, stderr } = await home.latchkey([...of, ...filter, "--json"]);
        assert.equal(code, 0, stderr);
        assert.equal(jsonLines(stdout).length, count, filter.join(" "));
      }),
    );
  }
});

test("logs --limit says that there are more, and --json and --csv give all that match", async () => {
  const some = await home.latchkey(["logs", "--key", caller.apiKeyId, "--limit", "2"]);
  assert.equal(tableRows(some.stdout).length, 2);
  assert.match(some.stderr, /There are more/);
  const [json, csv] = await Promise.all(
    ["--json", "--csv"].map((format) => home.latchkey(["logs", "--key", caller.apiKeyId, format])),
  );
  assert.deepEqual([json?.code, json?.stderr, csv?.code, csv?.stderr], [0, "", 0, ""]);
  const objects = jsonLines(json?.stdout ?? "");
  const records = parse(csv?.stdout ?? "", { columns: true }) as Record<string, string>[];
  assert.equal(objects.length, 5);
  assert.deepEqual(
    records.map(({ id, code }) => [id, code]),
    objects.map(({ id, code }) => [id, code]),
  );
});

test("logs says when calls are still to come", async (t) => {
  const method = { service: "packed.Service", name: "Get" };
  const letGo = await packHeld(server.databaseUrl, [callOf(uuidv7(), { method })]);
  t.after(letGo);
  const before = await home.latchkey(["logs", "--service", method.service]);
  assert.deepEqual([before.code, tableRows(before.stdout).length], [0, 0]);
  assert.match(before.stderr, /Calls of the last moments are missing/);
  await letGo();
  const after = await until(
    () => home.latchkey(["logs", "--service", method.service]),
    ({ stdout }) => tableRows(stdout).length === 1,
  );
  assert.equal(after.stderr, "");
});

test("who is not staff sees their own calls", async () => {
  const { code, stdout } = await home.latchkey(["logs", "--json"], { env: { LATCHKEY_TOKEN: caller.token } });
  assert.equal(code, 0);
  assert.ok(jsonLines(stdout).every(({ userId }) => userId === String(caller.userId)));
  const others = await home.latchkey(["logs", "--user", "1"], { env: { LATCHKEY_TOKEN: caller.token } });
  assert.deepEqual([others.code, others.stdout], [4, ""]);
});

test("a filter that is none is a wrong use", async () => {
  await Promise.all(
    (
      [
        [["--code", "nope"], /code "nope" is unknown/],
        [["--since", "soon"], /1h, 2027-01-01/],
        [["--min-duration", "5"], /a duration like/],
        [["--protocol", "smtp"], /grpc, grpc-web/],
        [["--denial", "mood"], /missing, malformed/],
        [["--address", "nowhere"], /peer_address|address/],
        [["--csv", "--json"], /cannot be used with/],
        [["--follow", "--limit", "5"], /--follow has no end/],
        [["--follow", "--until", "1h"], /--follow has no end/],
      ] as const
    ).map(async ([args, message]) => {
      const { code, stdout, stderr } = await home.latchkey(["logs", ...args]);
      assert.deepEqual([code, stdout], [2, ""], `${args.join(" ")}: ${stderr}`);
      assert.match(stderr, message);
    }),
  );
});
