/** README says what is so. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { createToken } from "../src/auth/token.ts";
import { settings as allSettings, readConfig } from "../src/config.ts";
import { newHome } from "./harness/cli.ts";
import { runCurl, runGrpcurl } from "./harness/commands.ts";
import { noteSecret } from "./harness/secrets.ts";
import { secretKey, startServer, type TestServer } from "./harness/server.ts";
import { tokenPattern } from "./harness/token-pattern.ts";

const readme = readFileSync("README.md", "utf8");

/** The blocks of a language. */
function blocks(language: string): string[] {
  return [...readme.matchAll(new RegExp(`^( *)\`\`\`${language}\\n([\\s\\S]*?)^\\1\`\`\``, "gm"))].map(
    ([, , text]) => text ?? "",
  );
}

let latchkey: TestServer;
before(async () => {
  latchkey = await startServer();
});
after(() => latchkey.close());

async function runNpx(command: string): Promise<Record<string, unknown>> {
  return JSON.parse((await promisify(execFile)("sh", ["-c", command])).stdout);
}

const calls = blocks("sh").filter((block) => /^(curl|npx buf curl|grpcurl)/.test(block));

test("README has commands for curl, grpcurl and buf", () => {
  for (const tool of ["curl", "grpcurl", "npx buf curl"]) {
    assert.ok(
      calls.some((block) => block.startsWith(tool)),
      tool,
    );
  }
});

/** What the answer of a command must say, by the method that it calls. */
const answers: Record<string, (answer: Record<string, unknown>) => void> = {
  GetUser: (answer) => assert.equal(answer.username, "admin"),
  CreateApiKey: (answer) => assert.match(noteSecret(String(answer.token)), tokenPattern("lk")),
  UpdateApiKey: (answer) => assert.deepEqual(keyOf(answer).allowedMethods, ["api.users.*"]),
  RotateApiKey: (answer) => assert.match(noteSecret(String(answer.token)), tokenPattern("lk")),
  RevokeApiKey: (answer) => assert.equal(keyOf(answer).status, "API_KEY_STATUS_REVOKED"),
  VerifyApiKey: (answer) =>
    assert.equal((answer.verdict as Record<string, unknown>).denialReason, "DENIAL_REASON_MALFORMED"),
  ListRequestLogs: (answer) => assert.deepEqual(answer, {}),
  GetBreakdown: (answer) => assert.equal(answer.complete, true),
};
const keyOf = (answer: Record<string, unknown>) => answer.apiKey as Record<string, unknown>;

for (const block of calls) {
  const [, method = ""] = block.match(/\w+\.\w+Service\/(\w+)\s*$/) ?? [];
  test(`README's command works as it stands: ${method} by ${block.split(" -")[0]}`, async () => {
    process.env.TOKEN = secretKey;
    const { apiKey, token } = await latchkey.asStaff.keys.createApiKey({ userId: 2n, name: "of README" });
    noteSecret(token);
    process.env.KEY_ID = apiKey?.id ?? "";
    const here = block
      .replaceAll(/\\?\n\s*/g, "")
      .replaceAll(/(127\.0\.0\.1|localhost):50051/g, `127.0.0.1:${latchkey.port}`)
      .trim();
    const answer = await (here.startsWith("grpcurl")
      ? runGrpcurl(here)
      : here.startsWith("curl")
        ? runCurl(here)
        : runNpx(here));
    const check = answers[method];
    assert.ok(check, `no test says what ${method} should answer`);
    check(answer);
  });
}

const commandLines = blocks("sh").filter(
  (block) => block.startsWith("latchkey") || block.startsWith("INVOICES="),
);

test("README's commands for the command line work as they stand, one after the other", async () => {
  assert.ok(commandLines.length >= 5);
  const { apiKey, token } = await latchkey.asStaff.keys.createApiKey({
    userId: 2n,
    name: "of README's commands",
  });
  noteSecret(token);
  // Without LATCHKEY_TOKEN: they begin with a login.
  const home = newHome({ LATCHKEY_SERVER: latchkey.url, KEY_ID: apiKey?.id ?? "" });
  writeFileSync(join(home.directory, "token.txt"), secretKey);
  const foreign = noteSecret("a-token-from-another-system");
  writeFileSync(join(home.directory, "keys.csv"), `token,user,name\n${foreign},example,invoices\n`);
  for (const block of commandLines) {
    const { code, stdout, stderr } = await home.shell(
      `set -e\n${block}\n[ -z "$INVOICES" ] || echo "made $INVOICES"`,
    );
    assert.equal(code, 0, `${block}\n${stderr}`);
    for (const [made] of stdout.matchAll(tokensIn)) noteSecret(made);
  }
  const { requestLogs } = await latchkey.asStaff.logs.listRequestLogs({ filter: { protocol: "verify" } });
  assert.ok(requestLogs.some(({ code }) => code === "ok"));
});

const tokensIn = new RegExp(tokenPattern("lk").source, "g");

test("README's table of settings has every setting, and no other", () => {
  const table = readme.match(/^## Settings$[\s\S]*?^## /m)?.[0] ?? "";
  const documented = new Set(
    [...table.matchAll(/^\|([^|]*)\|/gm)].flatMap(([, cell = ""]) => cell.match(/[A-Z][A-Z_]{3,}/g) ?? []),
  );
  const settings = new Set(allSettings.map(({ env }) => env));
  assert.ok(settings.size > 25);
  assert.deepEqual([...documented].sort(), [...settings].sort());
});

test("README's defaults are the defaults", () => {
  const defaults = readConfig({}) as unknown as Record<string, unknown>;
  const shown = new Map(
    [...readme.matchAll(/^\| `(?:LATCHKEY_)?([A-Z_]+)` \| ([^ |;]+) \|/gm)].map(
      ([, name = "", value = ""]) => [
        name.toLowerCase().replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
        value,
      ],
    ),
  );
  let held = 0;
  for (const [name, value] of shown) {
    if (!(name in defaults)) continue;
    assert.equal(value, String(defaults[name]), name);
    held++;
  }
  assert.ok(held >= 18, `${held} were compared`);
});

test("README's regular expression for secret scanners finds tokens, and is the one in the code", () => {
  const pattern = readme.match(/^ *(\\blk_\S+)$/m)?.[1] ?? "";
  assert.equal(pattern, tokenPattern("lk").source);
  assert.match(`key=${createToken("lk")};`, new RegExp(pattern));
});
