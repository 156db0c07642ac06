/** The server's own log: what an operator can read, and what must never be there. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import Fastify from "fastify";
import { createToken, hashToken, tokenStart } from "../src/auth/token.ts";
import { connect, database } from "../src/db/client.ts";
import { createApiKeyChanges } from "../src/keys/changes.ts";
import type { NewApiKey } from "../src/keys/store.ts";
import { describeError, loggerOptions } from "../src/logger.ts";
import { createUserChanges } from "../src/users/changes.ts";
import { createTestDatabase } from "./harness/postgres.ts";
import { noteSecret } from "./harness/secrets.ts";
import { secretKey, startServer } from "./harness/server.ts";

/** The ways in which a token's hash may be written, in a parameter list or as a Buffer. */
function hashForms(token: string): string[] {
  const digest = createHash("sha256").update(token).digest();
  return [
    digest.toString("hex"),
    digest.toString("base64"),
    digest.toString("base64url"),
    digest.join(","),
    JSON.stringify([...digest]),
  ];
}

/** A logger that keeps its lines. */
function setUp(options: { tokenPrefix?: string; secretKey?: string | undefined; level?: string } = {}) {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  const logger = loggerOptions({ level: "info", tokenPrefix: "lk", secretKey, stream, ...options });
  const { log } = Fastify({ logger });
  return { log, lines };
}

test("what Drizzle says of a failed statement is logged without its parameters, hashes among them", async () => {
  const client = connect(
    { url: await createTestDatabase() },
    { max: 1, purpose: "log", statementTimeoutMs: 5000 },
  );
  try {
    const db = database(client);
    const user = await createUserChanges((change) => db.transaction(change)).create(
      { username: "ada", email: "", bio: "", isStaff: false },
      {},
    );
    const token = noteSecret(createToken("lk"));
    const key: NewApiKey = {
      userId: user.id,
      name: "a name that is nobody's business",
      description: "it reads\n    at the beginning of a line like a stack",
      type: "service",
      hash: hashToken(token),
      start: tokenStart(token, "lk"),
      expiresAt: null,
    };
    const keys = createApiKeyChanges((change) => db.transaction(change));
    await keys.create(key, {});
    const error: unknown = await keys.create(key, {}).catch((reason: unknown) => reason);
    // Otherwise there would be nothing to leave out.
    assert.ok(error instanceof Error && error.message.includes(key.name), String(error));

    const described = describeError(error);
    assert.equal(described.message, "a statement failed");
    assert.equal(described.cause?.code, "23505");
    assert.match(
      described.cause.message,
      /duplicate key value violates unique constraint "api_keys_hash_key"/,
    );
    assert.match(described.stack ?? "", /^\s+at /);
    const text = JSON.stringify(described);
    for (const secret of [key.name, "the beginning of a line", token, key.start, ...hashForms(token)]) {
      assert.ok(!text.includes(secret), `${secret} in ${text}`);
    }
  } finally {
    await client.end();
  }
});

for (const [what, state, code, rawMessage] of [
  ["fails on a statement", "P0001", Code.Internal, "internal error"],
  [
    "waits too long for a statement",
    "57014",
    Code.DeadlineExceeded,
    "the database took too long: ask for less, or again later",
  ],
  ["finds no connection left", "53300", Code.Unavailable, "the database does not answer: try again later"],
] as const) {
  test(`a handler that ${what} is logged by name and cause, and told as ${Code[code]}`, async () => {
    const latchkey = await startServer();
    try {
      await latchkey.sql.unsafe(`
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE 'no more keys' USING ERRCODE = '${state}'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON api_keys FOR EACH ROW EXECUTE FUNCTION refuse()`);
      const request = { userId: 2n, name: "never made" };
      await assert.rejects(latchkey.asStaff.keys.createApiKey(request), { code, rawMessage });
      const [line] = latchkey.logLines.filter(({ msg }) => msg === "a handler failed");
      assert.equal(line?.rpc, "latchkey.v1.ApiKeyService/CreateApiKey");
      const text = JSON.stringify(line);
      assert.match(text, /no more keys/);
      assert.ok(!text.includes("never made") && !text.includes("params"), text);
    } finally {
      await latchkey.close();
    }
  });
}

test("tokens and the secret key are blotted out wherever in a line they come", () => {
  const token = createToken("lk");
  const { log, lines } = setUp();
  const error = new Error(`${token} came with ${secretKey}`, { cause: new Error(`because of ${token}`) });
  error.name = `Error of ${token}`;
  log.error({ err: error }, `failed with ${token} and ${secretKey}`);
  log.warn(
    { url: `/?key=${token}`, headers: { "x-api-key": [token, secretKey] } },
    "a line of somebody else's",
  );
  log.info(token);
  log.error(new TypeError(token));
  log.error({ err: token }, "a string was thrown");
  assert.equal(lines.length, 5);
  for (const line of lines) {
    JSON.parse(line);
    assert.match(line, /\[redacted\]/);
    assert.ok(!line.includes(token.slice(0, 12)) && !line.includes(secretKey), line);
  }
});

test("a secret key is blotted out though JSON writes it otherwise", () => {
  const odd = 'a"secret\\key"of\\16';
  const { log, lines } = setUp({ secretKey: odd });
  log.error({ err: new Error(`it was ${odd}`), headers: [odd] }, odd);
  const line = JSON.parse(lines[0] ?? "");
  assert.equal(line.msg, "[redacted]");
  assert.deepEqual(line.headers, ["[redacted]"]);
  assert.equal(line.err.message, "it was [redacted]");
});

test("tokens of a configured prefix are blotted out, and what only looks like a start is not", () => {
  const { log, lines } = setUp({ tokenPrefix: "acme_live", secretKey: undefined });
  const token = createToken("acme_live");
  log.info(`${token} starts with ${tokenStart(token, "acme_live")}`);
  assert.equal(
    JSON.parse(lines[0] ?? "").msg,
    `acme_live_[redacted] starts with ${tokenStart(token, "acme_live")}`,
  );
});

test("a message that looks like a stack does not pass for one", () => {
  const token = createToken("lk");
  const { log, lines } = setUp();
  log.error({ err: new Error(`multi\n    at ${token}\n    at ${secretKey}`) }, "m");
  assert.ok(!lines.join().includes(token) && !lines.join().includes(secretKey));
});

test("whatever is thrown can be described", () => {
  for (const [thrown, expected] of [
    ["text", { type: "string", message: "text" }],
    [undefined, { type: "undefined", message: "undefined" }],
    [null, { type: "object", message: "null" }],
    [42, { type: "number", message: "42" }],
    [Symbol("s"), { type: "symbol", message: "Symbol(s)" }],
    [{ a: 1 }, { type: "object", message: "[object Object]" }],
    [Object.create(null), { type: "object", message: "[object Object]" }],
  ] as const) {
    assert.deepEqual(describeError(thrown), expected);
  }
  const circular = new Error("round");
  circular.cause = circular;
  assert.equal(describeError(circular).cause?.cause?.message, "round");
  const noStack = new Error("bare");
  delete noStack.stack;
  assert.deepEqual(describeError(noStack), { type: "Error", message: "bare" });
});

test("what libraries hang on an error besides is left out, its code is kept", () => {
  const error = Object.assign(new RangeError("out"), {
    code: "E_RANGE",
    input: "a secret",
    headers: { a: 1 },
  });
  const { stack, ...rest } = describeError(error);
  assert.match(stack ?? "", /^\s+at .*logger\.test/);
  assert.deepEqual(rest, { type: "RangeError", message: "out", code: "E_RANGE" });
});

test("lines are JSON, say which process wrote them, and none is written below the level", () => {
  const { log, lines } = setUp({ level: "warn" });
  log.info("too quiet");
  log.warn("heard");
  const [line, ...more] = lines.map((text) => JSON.parse(text));
  assert.equal(more.length, 0);
  assert.deepEqual([line.msg, line.pid, line.level], ["heard", process.pid, 40]);
  assert.ok(Math.abs(line.time - Date.now()) < 60_000);
  const silent = setUp({ level: "silent" });
  silent.log.fatal("nothing");
  assert.deepEqual(silent.lines, []);
});
