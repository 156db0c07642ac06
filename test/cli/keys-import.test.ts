/** `latchkey keys import`: files of another system's keys. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { hashToken } from "../../src/auth/token.ts";
import { type Home, jsonLines, newHome } from "../harness/cli.ts";
import { noteSecret } from "../harness/secrets.ts";
import { secretKey, startServer, type TestServer } from "../harness/server.ts";

let server: TestServer;
let home: Home;
before(async () => {
  server = await startServer();
  home = newHome({ LATCHKEY_SERVER: server.url, LATCHKEY_TOKEN: secretKey });
});
after(() => server.close());

function file(name: string, text: string): string {
  writeFileSync(join(home.directory, name), text);
  return name;
}

test("tokens of a CSV file are good afterwards, and an import that is repeated makes nothing", async () => {
  const tokens = ["plain-token-of-old-1", "plain-token-of-old-2"].map(noteSecret);
  const csv = file(
    "keys.csv",
    `token,user,name,type,expires_at,allowed_methods,created_at\r\n` +
      `${tokens[0]},example,"first, with a comma",webhook,2100-01-01,"api.users.UserService/* a.B/C",2024-05-06\r\n` +
      `${tokens[1]},2,second,,never,,\r\n`,
  );
  const dry = await home.latchkey(["keys", "import", csv, "--dry-run"]);
  assert.deepEqual([dry.code, dry.stdout, dry.stderr], [0, "", "2 keys can be read; nothing was sent.\n"]);
  const first = await home.latchkey(["keys", "import", csv]);
  assert.deepEqual(
    [first.code, first.stdout, first.stderr],
    [0, "imported 2 keys; 0 were there already\n", ""],
  );
  const user = await server.as(tokens[0] ?? "").users.getUser({ userId: 2n });
  assert.notEqual(user.email, "", "signed in");
  const { apiKeys } = await server.asStaff.keys.listApiKeys({ userId: 2n, search: "first, with" });
  const [key] = apiKeys;
  assert.deepEqual(
    [key?.imported, key?.allowedMethods, key?.start, key?.createdAt?.seconds],
    [true, ["api.users.UserService/*", "a.B/C"], "plain", BigInt(Date.UTC(2024, 4, 6) / 1000)],
  );
  const again = await home.latchkey(["keys", "import", csv, "--json"]);
  assert.deepEqual(
    jsonLines(again.stdout).map(({ created }) => created),
    [false, false],
  );
});

test("hashes of an NDJSON file come on standard input too", async () => {
  const token = noteSecret("another-system-token-1");
  const line = { hash: hashToken(token), userId: 2, name: "by hash", allowedAddresses: ["127.0.0.1/32"] };
  const { code, stdout, stderr } = await home.latchkey(["keys", "import", "-", "--format", "ndjson"], {
    input: `${JSON.stringify(line)}\n\n`,
  });
  assert.deepEqual([code, stdout], [0, "imported 1 keys; 0 were there already\n"], stderr);
  await server.as(token).keys.listApiKeys({});
});

test("more than the server takes at once goes in parts", async () => {
  const rows = Array.from({ length: 1203 }, (_, i) => `${noteSecret(`bulk-token-number-${i}`)},2,bulk ${i}`);
  const csv = file("many.csv", `token,user_id,name\n${rows.join("\n")}\n`);
  const { code, stdout, stderr } = await home.latchkey(["keys", "import", csv]);
  assert.deepEqual([code, stdout], [0, "imported 1203 keys; 0 were there already\n"], stderr);
});

test("what is wrong with a file is told by its line, and no token is repeated", async () => {
  const secret = noteSecret("this-token-stays-secret");
  const cases = [
    ["a.csv", `token,user,name\n${secret},2,x\n${secret},2`, /line 3: this is not CSV/, 2],
    [
      "b.csv",
      `token,usr,name\n${secret},2,x\n`,
      /line 1: there is no column "usr": it is one of token, hash/,
      2,
    ],
    ["c.csv", `token,user,name\n${secret} ${secret},2,x\n`, /line 2: a token must be 8 to 512/, 2],
    ["d.csv", `token,user,name,type\n${secret},2,x,toy\n`, /line 2: type must be one of service, cli/, 2],
    ["e.csv", `token,user,name,expires_at\n${secret},2,x,soon\n`, /line 2: It takes 90d, 2027-01-01/, 2],
    ["f.csv", `name,user\nx,2\n`, /line 2: give either token or hash/, 2],
    ["g.ndjson", `{"token":"${secret}",\n`, /line 1: this is not JSON/, 2],
    ["h.ndjson", `\n[]\n`, /line 2: this is not a JSON object/, 2],
    ["i.csv", `token,user,name\n${secret},nobody,x\n`, /line 2: there is no user nobody/, 5],
    [
      "j.csv",
      `token,user,name\n${secret},2,ok\n${secret}-2,2,\n`,
      /line 3, name: must have 1 to 100.*\n.*nothing was imported/,
      2,
    ],
    [
      "k.csv",
      `token,user,name\n${secret},2,x\n${secret},2,y\n`,
      /line 2, hash: and line 3, hash: are the same/,
      2,
    ],
  ] as const;
  await Promise.all(
    cases.map(async ([name, text, message, code]) => {
      const outcome = await home.latchkey(["keys", "import", file(name, text)]);
      assert.deepEqual([outcome.code, outcome.stdout], [code, ""], outcome.stderr);
      assert.match(outcome.stderr, message);
      assert.ok(!outcome.stderr.includes(secret), outcome.stderr);
    }),
  );
  const missing = await home.latchkey(["keys", "import", "missing.csv"]);
  assert.equal(missing.code, 2);
  assert.match(missing.stderr, /cannot read the file/);
  const { apiKeys } = await server.asStaff.keys.listApiKeys({ search: "ok" });
  assert.deepEqual(apiKeys, []);
});
