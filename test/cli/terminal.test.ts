/** What commands print, whatever they are given and whoever reads it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
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

test("a name that would move the cursor, colour the terminal or turn its writing is shown as it is, harmlessly", async () => {
  const name = "a\u001b[31m\u009b2Jb\u202ec\r\nd";
  const { apiKey, token } = await server.asStaff.keys.createApiKey({ userId: 2n, name });
  noteSecret(token);
  const id = apiKey?.id ?? "";
  const outcomes = await Promise.all([
    home.latchkey(["keys", "list"]),
    home.latchkey(["keys", "show", id]),
    home.latchkey(["keys", "revoke", id]),
    home.latchkey(["audit", "--key", id]),
    home.latchkey(["keys", "show", id, "--json"]),
    home.latchkey(["call", "latchkey.v1.ApiKeyService/GetApiKey", JSON.stringify({ id })]),
  ]);
  for (const { stdout, stderr } of outcomes) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there.
    assert.ok(!/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/.test(stdout + stderr), JSON.stringify(stdout + stderr));
  }
  assert.match(outcomes[0].stdout, / a·\[31m·2Jb·c··d /);
  assert.equal(jsonLines(outcomes[4].stdout)[0]?.name, name);
});

test("a table keeps its columns with wide characters", async () => {
  for (const name of ["鍵", "plain", "e\u0301cole"]) {
    noteSecret((await server.asStaff.keys.createApiKey({ userId: 2n, name, description: "wide" })).token);
  }
  const { stdout } = await home.latchkey(["keys", "list", "--search", "wide"]);
  const [head = "", ...lines] = stdout.trimEnd().split("\n");
  const at = head.indexOf("TYPE");
  // Two cells wide; two code units, one cell wide.
  const shift: Record<string, number> = { 鍵: -1, plain: 0, "e\u0301cole": 1 };
  assert.equal(lines.length, 3);
  for (const line of lines) {
    const [name = ""] = Object.keys(shift).filter((each) => line.includes(each));
    assert.equal(line.indexOf("service"), at + (shift[name] ?? 0), line);
  }
});

test("a reader that stops reading ends the command without a word", async () => {
  const { id: userId } = await server.asStaff.users.createUser({ username: "many" });
  const apiKeys = Array.from({ length: 1000 }, (_, i) => ({
    userId,
    name: `key ${i}`,
    description: "x".repeat(900),
    hash: i.toString(16).padStart(64, "0"),
  }));
  await server.asStaff.keys.importApiKeys({ apiKeys });
  const { code, stdout, stderr } = await home.shell("latchkey keys list --limit 0 --json | head -n 1");
  assert.deepEqual([code, jsonLines(stdout).length, stderr], [0, 1, ""]);
});

test("a token that nobody reads is told of, with the key to revoke", async () => {
  const { stderr } = await home.shell("latchkey keys create --user 2 --name unread | true");
  const [, id] = stderr.match(/nobody read the token.*: revoke the key ([0-9a-f-]{36})$/m) ?? [];
  const { apiKeys } = await server.asStaff.keys.listApiKeys({ search: "unread" });
  assert.deepEqual(
    apiKeys.map((key) => key.id),
    [id],
  );
});

test("there are no colours where there is no terminal, whatever the environment says", async () => {
  for (const env of [{ FORCE_COLOR: "1" }, { CLICOLOR_FORCE: "1" }, {}] as Record<string, string>[]) {
    const { stdout, stderr } = await home.latchkey(["users", "list"], { env });
    assert.ok(!(stdout + stderr).includes("\u001b"), JSON.stringify(env));
  }
});

test("nothing is printed but the result, however long it takes", async (t) => {
  const { url, close } = await startSlowServer(1500);
  t.after(close);
  const { code, stdout, stderr } = await home.latchkey(["whoami", "--server", url]);
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, /^latchkey: .*\n$/, "and no progress");
});

async function startSlowServer(ms: number): Promise<{ url: string; close: () => void }> {
  const { createServer } = await import("node:http");
  const slow = createServer((_, response) => setTimeout(() => response.writeHead(500).end(), ms));
  await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve));
  const { port } = slow.address() as { port: number };
  return { url: `http://127.0.0.1:${port}`, close: () => slow.close() };
}

test("an answer that does not come in time is told with how to give it more", async (t) => {
  const { url, close } = await startSlowServer(30_000);
  t.after(close);
  const { code, stderr } = await home.latchkey(["whoami", "--server", url, "--timeout", "300ms"]);
  assert.equal(code, 6);
  assert.match(stderr, /did not answer in time .*--timeout/);
});
