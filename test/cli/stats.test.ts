/** `latchkey stats` and `latchkey audit`, against a real server. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Home, jsonLines, newHome, tableRows } from "../harness/cli.ts";
import { createUserAndKey, secretKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

let server: TestServer;
let home: Home;
let caller: { userId: bigint; apiKeyId: string; token: string };
before(async () => {
  server = await startServer();
  home = newHome({ LATCHKEY_SERVER: server.url, LATCHKEY_TOKEN: secretKey });
  caller = await createUserAndKey(server.asStaff, "caller");
  const { users } = server.as(caller.token);
  for (let i = 0; i < 3; i++) await users.getUser({ userId: 1n });
  await users.deleteUser({ userId: 1n }).catch(() => {});
  await until(
    () => server.asStaff.keys.getApiKey({ id: caller.apiKeyId }),
    ({ apiKey }) => apiKey?.requestCount === 4n,
  );
});
after(() => server.close());

test("stats sums up what a key has called", async () => {
  const args = ["stats", "--key", caller.apiKeyId, "--since", "1h"];
  const people = await home.latchkey(args);
  assert.deepEqual([people.code, people.stderr], [0, ""]);
  assert.match(people.stdout, /^requests +4\nerrors +1 \(25\.0 %\)\ndenials +1\n/m);
  const programs = await home.latchkey([...args, "--json"]);
  const [answer] = jsonLines(programs.stdout);
  assert.equal((answer?.stats as { requests: string } | undefined)?.requests, "4");
});

test("stats --by divides", async () => {
  const by = async (...args: string[]) => {
    const { code, stdout, stderr } = await home.latchkey(["stats", "--user", "caller", ...args]);
    assert.equal(code, 0, stderr);
    return tableRows(stdout);
  };
  const [methods, codes, reasons, keys] = await Promise.all(
    ["method", "code", "denial-reason", "key"].map((dimension) => by("--by", dimension)),
  );
  assert.deepEqual(
    methods?.map(({ METHOD, REQUESTS }) => [METHOD, REQUESTS]),
    [
      ["api.users.UserService/GetUser", "3"],
      ["api.users.UserService/DeleteUser", "1"],
    ],
  );
  assert.deepEqual(
    codes?.map(({ CODE, REQUESTS }) => [CODE, REQUESTS]),
    [
      ["ok", "3"],
      ["permission_denied", "1"],
    ],
  );
  assert.deepEqual(
    reasons?.map((row) => row["DENIAL REASON"]),
    ["not refused", "staff-required"],
  );
  assert.deepEqual(
    keys?.map(({ KEY, REQUESTS }) => [KEY, REQUESTS]),
    [[caller.apiKeyId, "4"]],
  );
});

test("stats --series goes step by step", async () => {
  const args = ["stats", "--user", "caller", "--since", "3h", "--series", "--step", "1h"];
  const { code, stdout, stderr } = await home.latchkey(args);
  assert.deepEqual([code, stderr], [0, ""]);
  const rows = tableRows(stdout);
  assert.ok(rows.length === 4 || rows.length === 5, `${rows.length} hours touch three`);
  assert.equal(
    rows.reduce((sum, { REQUESTS }) => sum + Number(REQUESTS), 0),
    4,
  );
  const [answer] = jsonLines((await home.latchkey([...args, "--by", "method", "--json"])).stdout);
  assert.equal((answer?.series as unknown[] | undefined)?.length, 2);
});

test("audit tells who changed what, from what to what", async () => {
  await server.asStaff.keys.updateApiKey({
    apiKey: { id: caller.apiKeyId, name: "renamed" },
    updateMask: { paths: ["name"] },
  });
  const { code, stdout, stderr } = await home.latchkey(["audit", "--key", caller.apiKeyId]);
  assert.deepEqual([code, stderr], [0, ""]);
  const rows = tableRows(stdout);
  assert.deepEqual(
    rows.map(({ ACTION, BY, KEY }) => [ACTION, BY, KEY]),
    [
      ["api_key.update", "1", caller.apiKeyId],
      ["api_key.create", "1", caller.apiKeyId],
    ],
  );
  assert.equal(rows[0]?.CHANGES, "name: key of caller → renamed");
  const counts: readonly (readonly [readonly string[], number])[] = [
    [["--user", "caller", "--action", "user.create"], 1],
    [["--user", "caller", "--actor", "admin", "--since", "1h"], 3],
    [["--user", "caller", "--until", "1h"], 0],
    [["--actor-key", caller.apiKeyId], 0],
    [["--limit", "1"], 1],
  ];
  await Promise.all(
    counts.map(async ([args, count]) => {
      const outcome = await home.latchkey(["audit", ...args, "--json"]);
      assert.equal(jsonLines(outcome.stdout).length, count, `${args.join(" ")}: ${outcome.stderr}`);
    }),
  );
});

test("what is asked wrongly, or not allowed, is told with the exit status of its kind", async () => {
  const as = { env: { LATCHKEY_TOKEN: caller.token } };
  await Promise.all(
    (
      [
        [["stats", "--step", "1h"], 2, /--step goes with --series/],
        [["stats", "--by", "colour"], 2, /service, method, code/],
        [["stats", "--since", "2y"], 2, /400 days/],
        [["stats", "--code", "nope"], 2, /nope/],
        [["stats", "--user", "1"], 4, /\w/, as],
        [["audit"], 4, /staff/, as],
        [["audit", "--action", "nope"], 2, /nope/],
      ] as const
    ).map(async ([args, code, message, options]) => {
      const outcome = await home.latchkey([...args], options);
      assert.deepEqual([outcome.code, outcome.stdout], [code, ""], `${args.join(" ")}: ${outcome.stderr}`);
      assert.match(outcome.stderr, message);
    }),
  );
});
