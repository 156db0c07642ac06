/** Verifications and the recorder: what must be committed before it is answered, and what it costs the database. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import type { CallRecorder, EndedCall } from "../../src/auth/call.ts";
import { createCredentialReader } from "../../src/auth/credential.ts";
import { createPolicy } from "../../src/auth/policy.ts";
import { principalKey } from "../../src/auth/principal.ts";
import type { Decide, Verdict } from "../../src/auth/verdict.ts";
import { ApiKeyService } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { createVerification } from "../../src/keys/verify.ts";
import { createUserAndKey, startServer } from "../harness/server.ts";
import { statementsSeen, watchStatements } from "../harness/statements-seen.ts";
import { until } from "../harness/until.ts";

const anonymous: Verdict = {
  denial: undefined,
  principal: undefined,
  subject: undefined,
  credentialKind: "none",
};

/** A verification service whose recorder the test holds in its hands. */
function setUp(recorder: Partial<CallRecorder> = {}, decide: Decide = () => anonymous) {
  const recorded: EndedCall[] = [];
  let decided = 0;
  const verification = createVerification({
    decide(question) {
      decided++;
      return decide(question);
    },
    policy: createPolicy({ requireAuth: false, publicMethods: [] }),
    readCredential: createCredentialReader({
      apiKeyHeader: "x-api-key",
      tokenPrefix: "lk",
      secretKey: undefined,
    }),
    apiKeyHeader: "x-api-key",
    recorder: {
      accepts: () => true,
      record(call) {
        recorded.push(call);
        return undefined;
      },
      ...recorder,
    },
  });
  const transport = createRouterTransport((router) => router.service(ApiKeyService, verification), {
    router: {
      interceptors: [
        (next) => (req) => {
          req.contextValues.set(principalKey, {
            userId: 1n,
            username: "admin",
            isStaff: true,
            credentialKind: "api_key",
            apiKeyId: "01890a5d-ac96-774b-bcce-b302099a8057",
            canVerify: true,
          });
          return next(req);
        },
      ],
    },
  });
  return {
    client: createClient(ApiKeyService, transport),
    recorded,
    get decided() {
      return decided;
    },
  };
}

const failure = (call: Promise<unknown>) =>
  call.then(() => assert.fail("it was answered"), ConnectError.from);
const requests = [{ method: "a.B/C" }, { method: "a.B/D" }];

test("what must be counted and cannot be is not decided, and answered unavailable", async () => {
  const world = setUp({ accepts: ({ name }) => name !== "D" });
  await world.client.verifyApiKey({ method: "a.B/C" });
  assert.equal(world.decided, 1);
  for (const call of [
    world.client.verifyApiKey({ method: "a.B/D" }),
    world.client.batchVerifyApiKeys({ requests }),
  ]) {
    const error = await failure(call);
    assert.equal(error.code, Code.Unavailable);
    assert.match(error.rawMessage, /could not be counted/);
  }
  assert.equal(world.decided, 1);
  assert.equal(world.recorded.length, 1, "no part of a batch is counted");
  // Which asks for no count.
  await world.client.verifyApiKey({ method: "a.B/D", skipUsage: true });
});

test("the answer waits for the commit of every verification", async () => {
  const commits = requests.map(() => Promise.withResolvers<void>());
  let n = 0;
  const { client } = setUp({ record: () => commits[n++]?.promise });
  let answered = false;
  const answer = client.batchVerifyApiKeys({ requests }).then((found) => {
    answered = true;
    return found;
  });
  await until(
    () => n,
    (count) => count === 2,
  );
  commits[1]?.resolve();
  // Many turns, so that an answer that does not wait would have come.
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(answered, false);
  commits[0]?.resolve();
  assert.equal((await answer).verdicts.length, 2);
});

test("a commit that fails is answered unavailable", async () => {
  const uncommitted = () => Promise.reject(new Error("not committed"));
  for (const record of [
    uncommitted,
    (call: EndedCall) => (call.method.name === "D" ? uncommitted() : Promise.resolve()),
  ]) {
    const { client } = setUp({ record });
    assert.equal((await failure(client.verifyApiKey({ method: "a.B/D" }))).code, Code.Unavailable);
    assert.equal((await failure(client.batchVerifyApiKeys({ requests }))).code, Code.Unavailable);
  }
});

test("the look-ups of a batch run at the same time, far fewer than there may be at once", async () => {
  const waiting: (() => void)[] = [];
  let most = 0;
  const { client } = setUp({}, async () => {
    await new Promise<void>((resolve) => waiting.push(resolve));
    return anonymous;
  });
  let answered = false;
  const answer = client
    .batchVerifyApiKeys({ requests: Array.from({ length: 100 }, () => ({ method: "a.B/C" })) })
    .then((found) => {
      answered = true;
      return found;
    });
  await until(
    () => {
      most = Math.max(most, waiting.length);
      for (const resolve of waiting.splice(0)) resolve();
      return answered;
    },
    (done) => done,
  );
  assert.equal((await answer).verdicts.length, 100);
  assert.equal(most, 16);
});

test("strict: a verification is committed when it is answered", async (t) => {
  const latchkey = await startServer({ usageDurability: "strict" });
  t.after(() => latchkey.close());
  const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "strict");
  await latchkey.asStaff.keys.batchVerifyApiKeys({
    requests: [{ token }, { token, method: "a.B/C" }, { token, skipUsage: true }],
  });
  const [found] = await latchkey.sql`
    SELECT request_count::int AS count,
      (SELECT count(*)::int FROM request_logs WHERE api_key_id = ${apiKeyId} AND protocol = 'verify') AS rows
    FROM api_key_usage WHERE api_key_id = ${apiKeyId}`;
  assert.deepEqual({ ...found }, { count: 2, rows: 2 });
});

test("a thousand verifications cost no SELECT", async (t) => {
  const latchkey = await startServer();
  t.after(() => latchkey.close());
  const { sql, asStaff } = latchkey;
  const { apiKeyId, token } = await createUserAndKey(asStaff, "steady");
  const gate = await createUserAndKey(asStaff, "gate");
  await sql`UPDATE api_keys SET can_verify = true WHERE id = ${gate.apiKeyId}`;
  const { keys } = latchkey.as(gate.token);
  const foreign = "other-7e0c2a9d";
  const requests = [token, foreign, gate.token, "", "x"].map((one) => ({ token: one, method: "a.B/C" }));
  const committed = async () => {
    const [row] = await sql`SELECT request_count::int AS n FROM api_key_usage WHERE api_key_id = ${apiKeyId}`;
    return row?.n as number;
  };
  // Until it may verify; and once more: news of changes may drop what the first look-up found.
  await until(
    () =>
      keys.batchVerifyApiKeys({ requests }).then(
        () => true,
        () => false,
      ),
    Boolean,
  );
  await until(committed, (n) => n === 1);
  await keys.batchVerifyApiKeys({ requests });
  await until(committed, (n) => n === 2);

  await watchStatements(sql);
  await Promise.all(Array.from({ length: 200 }, () => keys.batchVerifyApiKeys({ requests })));
  await until(committed, (n) => n === 202);
  // What a server asks in its own time: for news, and for packs (so many calls at once are a burst).
  const ofItsOwn = /^SELECT request_count|pg_notify|"request_log_packs"/;
  const selects = (await statementsSeen(sql)).filter(
    ({ query }) => /^select/i.test(query) && !ofItsOwn.test(query),
  );
  assert.deepEqual(selects, []);
});
