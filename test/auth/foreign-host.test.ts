/** `apiKeyInterceptor()` on stock Connect hosts: it looks up, refuses, counts and logs by itself, with and without a gate. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import type { EndedCall } from "../../src/auth/call.ts";
import { createToken } from "../../src/auth/token.ts";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import { createUserAndKey, secretKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { assemble, type Host, hostKinds, type Parts } from "./foreign-hosts.ts";
import { call, compileTableServices, type Kind, methodOf } from "./table-services.ts";

/** Makes and revokes the keys; the hosts under test share its database and nothing else. */
let latchkey: TestServer;
let compiled: Record<string, DescService>;
let headers: Record<string, Record<string, string>>;

before(async () => {
  compiled = compileTableServices();
  latchkey = await startServer();
  const { asStaff, sql } = latchkey;
  const ada = await createUserAndKey(asStaff, "ada");
  const gone = await createUserAndKey(asStaff, "gone");
  await asStaff.keys.revokeApiKey({ id: gone.apiKeyId });
  const old = await createUserAndKey(asStaff, "old");
  await sql`UPDATE api_keys SET expires_at = '2020-01-01' WHERE id = ${old.apiKeyId}`;
  const dora = await createUserAndKey(asStaff, "dora");
  await sql`UPDATE users SET is_active = false WHERE id = ${String(dora.userId)}`;
  const elsewhere = await createUserAndKey(asStaff, "elsewhere");
  await sql`UPDATE api_keys SET allowed_methods = '{api.users.*}' WHERE id = ${elsewhere.apiKeyId}`;
  const somewhere = await createUserAndKey(asStaff, "somewhere");
  await sql`UPDATE api_keys SET allowed_addresses = '{0.0.0.0/0,::/0}' WHERE id = ${somewhere.apiKeyId}`;
  const unknown = noteSecret(createToken("lk"));
  headers = {
    none: {},
    good: { "x-api-key": ada.token },
    bearer: { authorization: `Bearer ${ada.token}` },
    "secret key": { "x-api-key": secretKey },
    malformed: { "x-api-key": "nonsense" },
    unknown: { "x-api-key": unknown },
    revoked: { "x-api-key": gone.token },
    expired: { "x-api-key": old.token },
    "user disabled": { "x-api-key": dora.token },
    "for other methods": { "x-api-key": elsewhere.token },
    // What these hosts know nothing of, whatever is allowed.
    "for all addresses": { "x-api-key": somewhere.token },
    "two at once": { "x-api-key": ada.token, authorization: `Bearer ${unknown}` },
  };
});
after(() => latchkey.close());

let calls = 0;
/** A request id of its own, to find a call's record by. */
const newId = () => `call-${++calls}`;

interface Outcome {
  /** The texts that came, and then the code if it is not ok. */
  answers: string[];
  error: ConnectError | undefined;
}

async function outcome(
  transport: Transport,
  service: string,
  kind: Kind,
  options: { id: string; credential: string; text?: string; deadline?: Record<string, string> },
): Promise<Outcome> {
  const { id, credential, deadline, text = "" } = options;
  const answers: string[] = [];
  try {
    const sent = { ...headers[credential], ...deadline, "x-request-id": id };
    for await (const answer of call(transport, methodOf(compiled[service], kind), { text, headers: sent })) {
      answers.push(answer);
    }
    return { answers, error: undefined };
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    return { answers: [...answers, Code[error.code]], error };
  }
}

/** The one record of a call. */
async function record(parts: Parts, id: string): Promise<EndedCall> {
  const records = await until(
    () => parts.recorded.get(id) ?? [],
    (found) => found.length > 0,
  );
  assert.equal(records.length, 1, `${records.length} records of ${id}`);
  return records[0]!;
}

/** By service and credential: what the caller is answered, the denial reason, and the kind that is recorded. */
const verdicts: readonly (readonly [
  service: string,
  credential: string,
  answer: string,
  denial: string | undefined,
  kind: string,
])[] = [
  ["Undeclared", "none", "anonymous", undefined, "none"],
  ["Undeclared", "good", "ada", undefined, "api_key"],
  ["Undeclared", "revoked", "Unauthenticated", "REVOKED", "api_key"],
  ["Public", "none", "anonymous", undefined, "none"],
  ["Public", "good", "ada", undefined, "api_key"],
  ["Public", "malformed", "anonymous", undefined, "api_key"],
  ["Public", "revoked", "anonymous", undefined, "api_key"],
  ["Optional", "none", "anonymous", undefined, "none"],
  ["Optional", "bearer", "ada", undefined, "api_key"],
  ["Optional", "malformed", "Unauthenticated", "MALFORMED", "api_key"],
  ["Optional", "unknown", "Unauthenticated", "UNKNOWN", "api_key"],
  ["Authenticated", "none", "Unauthenticated", "MISSING", "none"],
  ["Authenticated", "good", "ada", undefined, "api_key"],
  ["Authenticated", "secret key", "admin", undefined, "secret_key"],
  ["Authenticated", "malformed", "Unauthenticated", "MALFORMED", "api_key"],
  ["Authenticated", "unknown", "Unauthenticated", "UNKNOWN", "api_key"],
  ["Authenticated", "revoked", "Unauthenticated", "REVOKED", "api_key"],
  ["Authenticated", "expired", "Unauthenticated", "EXPIRED", "api_key"],
  ["Authenticated", "user disabled", "Unauthenticated", "USER_DISABLED", "api_key"],
  ["Authenticated", "for other methods", "PermissionDenied", "METHOD_NOT_ALLOWED", "api_key"],
  ["Authenticated", "for all addresses", "PermissionDenied", "ADDRESS_NOT_ALLOWED", "api_key"],
  ["Optional", "for all addresses", "PermissionDenied", "ADDRESS_NOT_ALLOWED", "api_key"],
  ["Public", "for all addresses", "anonymous", undefined, "api_key"],
  ["Authenticated", "two at once", "Unauthenticated", "MALFORMED", "api_key"],
  ["Staff", "none", "Unauthenticated", "MISSING", "none"],
  ["Staff", "good", "PermissionDenied", "STAFF_REQUIRED", "api_key"],
  ["Staff", "secret key", "admin", undefined, "secret_key"],
];

/** Whose principal a record has: whom the handler saw, or who may not call the method. */
function principalBehind(answer: string, denial: string | undefined): string {
  if (denial === "STAFF_REQUIRED") return "ada";
  if (denial === "METHOD_NOT_ALLOWED") return "elsewhere";
  return denial === undefined ? answer : "anonymous";
}

/** What handlers do on their own: what the caller is answered, and the message that is recorded. */
const handlerErrors: readonly (readonly [
  text: string,
  kinds: readonly Kind[],
  answers: string[],
  message: string,
])[] = [
  ["not found", ["Unary", "Down"], ["NotFound"], "no such thing"],
  ["late not found", ["Down"], ["first", "NotFound"], "no such thing"],
  // What was not meant for the wire is on neither the wire nor the record.
  ["fail", ["Unary", "Down"], ["Internal"], "internal error"],
  ["late fail", ["Down"], ["first", "Internal"], "internal error"],
];

for (const hostKind of hostKinds) {
  for (const withGate of [false, true]) {
    describe(`on ${hostKind.name}, ${withGate ? "with" : "without"} a gate`, () => {
      let parts: Parts;
      let host: Host;
      let clients: (readonly [protocol: string, transport: Transport])[];
      const kindsOver = (protocol: string): Kind[] =>
        protocol === "grpc" ? ["Unary", "Down", "Up", "Both"] : ["Unary", "Down"];

      before(async () => {
        parts = await assemble(latchkey.databaseUrl, Object.values(compiled), withGate);
        host = await hostKind.start(parts.options);
        clients = hostKind.clients.map(([protocol, connect]) => [protocol, connect(host.url)]);
      });
      after(async () => {
        await host.close();
        await parts.close();
      });

      test("each credential is let in or refused, and recorded once", async () => {
        for (const [protocol, transport] of clients) {
          for (const kind of kindsOver(protocol)) {
            for (const [service, credential, answer, denial, credentialKind] of verdicts) {
              const cell = `${protocol} ${service}.${kind} ${credential}`;
              const id = newId();
              const { answers, error } = await outcome(transport, service, kind, { id, credential });
              assert.deepEqual(answers, [answer], cell);
              assert.equal(parts.ran.includes(id), denial === undefined, cell);
              if (denial !== undefined) {
                const reason = denial === "MALFORMED" || denial === "UNKNOWN" ? "INVALID_API_KEY" : denial;
                assert.deepEqual(
                  error?.findDetails(ErrorInfoSchema).map((info) => info.reason),
                  [reason],
                  cell,
                );
                assert.equal(
                  error?.metadata.has("www-authenticate"),
                  error?.code === Code.Unauthenticated,
                  cell,
                );
              }
              const ended = await record(parts, id);
              assert.deepEqual(
                {
                  method: `${ended.method.service.split(".").at(-1)}.${ended.method.name}`,
                  protocol: ended.protocol,
                  code: ended.code,
                  message: ended.errorMessage,
                  denial: ended.verdict?.denial,
                  kind: ended.verdict?.credentialKind,
                  principal: ended.verdict?.principal?.username ?? "anonymous",
                },
                {
                  method: `${service}.${kind}`,
                  protocol,
                  code: error?.code ?? 0,
                  message: error?.rawMessage,
                  denial,
                  kind: credentialKind,
                  principal: principalBehind(answer, denial),
                },
                cell,
              );
              assert.ok(ended.durationUs > 0 && ended.durationUs < 60_000_000, cell);
            }
          }
        }
      });

      test("what a handler throws is answered and recorded with one code", async () => {
        for (const [protocol, transport] of clients) {
          for (const [text, kinds, expected, message] of handlerErrors) {
            for (const kind of kinds) {
              for (const credential of ["good", "none"]) {
                const cell = `${protocol} ${kind} ${text} ${credential}`;
                const id = newId();
                const { answers } = await outcome(transport, "Optional", kind, { id, credential, text });
                assert.deepEqual(answers, expected, cell);
                const ended = await record(parts, id);
                assert.equal(Code[ended.code], expected.at(-1), cell);
                assert.equal(ended.errorMessage, message, cell);
                assert.equal(
                  ended.verdict?.principal?.username,
                  credential === "good" ? "ada" : undefined,
                  cell,
                );
              }
            }
          }
        }
      });

      for (const text of ["return when aborted", "rethrow when aborted", "sleep", "hang", "go on"]) {
        test(`a stream that its client cancels is recorded as canceled, where the handler would ${text}`, async () => {
          for (const [protocol, transport] of clients) {
            for (const credential of ["good", "none"]) {
              const id = newId();
              const controller = new AbortController();
              const method = methodOf(compiled.Optional, "Down");
              const sent = { ...headers[credential], "x-request-id": id };
              const answers = call(transport, method, {
                text: `late ${text}`,
                headers: sent,
                signal: controller.signal,
              });
              assert.equal((await answers.next()).value, "first");
              controller.abort();
              await assert.rejects(
                async () => {
                  for await (const _ of answers);
                },
                (error) => ConnectError.from(error).code === Code.Canceled,
              );
              const ended = await record(parts, id);
              assert.equal(Code[ended.code], "Canceled", `${protocol} ${credential}`);
              assert.equal(ended.verdict?.principal?.username, credential === "good" ? "ada" : undefined);
            }
          }
          await until(
            () => parts.streams.size,
            (size) => size === 0,
          );
        });
      }

      for (const text of ["return when aborted", "rethrow when aborted", "sleep", "hang"]) {
        test(`a unary call that its client cancels is recorded as canceled, where the handler would ${text}`, async () => {
          for (const [protocol, transport] of clients) {
            const id = newId();
            const controller = new AbortController();
            const sent = { ...headers.good, "x-request-id": id };
            const answer = call(transport, methodOf(compiled.Optional, "Unary"), {
              text,
              headers: sent,
              signal: controller.signal,
            }).next();
            answer.catch(() => {});
            await until(
              () => parts.ran.includes(id),
              (ran) => ran,
            );
            controller.abort();
            await assert.rejects(answer, (error) => ConnectError.from(error).code === Code.Canceled);
            const ended = await record(parts, id);
            assert.equal(Code[ended.code], "Canceled", protocol);
          }
        });
      }

      for (const [text, kind] of [
        ["late rethrow when aborted", "Down"],
        ["late sleep", "Down"],
        ["late hang", "Down"],
        ["rethrow when aborted", "Unary"],
        ["sleep", "Unary"],
        ["hang", "Unary"],
      ] as const) {
        test(`a ${kind} call whose deadline passes is recorded as deadline_exceeded, where the handler would ${text}`, async () => {
          for (const [protocol, transport] of clients) {
            const id = newId();
            // The client keeps no time of its own: what it is told is what the server sent.
            const deadline: Record<string, string> =
              protocol === "connect" ? { "connect-timeout-ms": "100" } : { "grpc-timeout": "100m" };
            const { answers } = await outcome(transport, "Optional", kind, {
              id,
              credential: "good",
              text,
              deadline,
            });
            assert.equal(answers.at(-1), "DeadlineExceeded", protocol);
            const ended = await record(parts, id);
            assert.equal(Code[ended.code], "DeadlineExceeded", protocol);
          }
          await until(
            () => parts.streams.size,
            (size) => size === 0,
          );
        });
      }

      test("revoking a key ends its open streams with unauthenticated, and theirs alone", async () => {
        for (const [protocol, transport] of clients) {
          const rita = await createUserAndKey(latchkey.asStaff, `rita-${newId()}`);
          const method = methodOf(compiled.Optional, "Down");
          const open = async (key: Record<string, string>, id: string, signal?: AbortSignal) => {
            const answers = call(transport, method, {
              text: "late hang",
              headers: { ...key, "x-request-id": id },
              ...(signal && { signal }),
            });
            assert.equal((await answers.next()).value, "first");
            return answers;
          };
          const [hers, others] = [newId(), newId()];
          const controller = new AbortController();
          const stream = await open({ "x-api-key": rita.token }, hers);
          const other = await open(headers.good!, others, controller.signal);
          await latchkey.asStaff.keys.revokeApiKey({ id: rita.apiKeyId });
          await assert.rejects(stream.next(), (error) => {
            assert.equal(ConnectError.from(error).code, Code.Unauthenticated);
            assert.match(String(error), /revoked at 2/);
            return true;
          });
          assert.equal(Code[(await record(parts, hers)).code], "Unauthenticated", protocol);
          assert.equal(parts.recorded.get(others), undefined, protocol);
          controller.abort();
          await assert.rejects(other.next());
          assert.equal(Code[(await record(parts, others)).code], "Canceled", protocol);
        }
      });

      test("while grants cannot be had, calls with a key are refused as unavailable, and public ones answered", async () => {
        parts.grantsUnavailable = true;
        try {
          for (const [protocol, transport] of clients) {
            for (const kind of kindsOver(protocol)) {
              for (const credential of ["good", "secret key"]) {
                const [asked, open] = [newId(), newId()];
                const refused = await outcome(transport, "Optional", kind, { id: asked, credential });
                assert.deepEqual(refused.answers, ["Unavailable"]);
                assert.equal(refused.error?.findDetails(ErrorInfoSchema)[0]?.reason, "UNAVAILABLE");
                assert.equal(refused.error?.metadata.get("www-authenticate"), null);
                const ended = await record(parts, asked);
                assert.deepEqual([Code[ended.code], ended.verdict?.denial], ["Unavailable", "UNAVAILABLE"]);
                const answered = await outcome(transport, "Public", kind, { id: open, credential });
                assert.deepEqual(answered.answers, ["anonymous"]);
              }
              const missing = await outcome(transport, "Staff", kind, { id: newId(), credential: "none" });
              assert.deepEqual(missing.answers, ["Unauthenticated"]);
            }
          }
        } finally {
          parts.grantsUnavailable = false;
        }
      });

      test("where a call must be counted and cannot be, it is refused as unavailable before its handler runs", async () => {
        parts.accepting = false;
        try {
          for (const [protocol, transport] of clients) {
            for (const kind of kindsOver(protocol)) {
              const id = newId();
              const { answers } = await outcome(transport, "Public", kind, { id, credential: "good" });
              assert.deepEqual(answers, ["Unavailable"], `${protocol} ${kind}`);
              assert.ok(!parts.ran.includes(id), `${protocol} ${kind}`);
              assert.equal(Code[(await record(parts, id)).code], "Unavailable", `${protocol} ${kind}`);
            }
          }
        } finally {
          parts.accepting = true;
        }
      });

      test("where a call's count is not committed, its caller is told unavailable, refused or not", async () => {
        parts.commitFails = true;
        try {
          for (const [protocol, transport] of clients) {
            for (const kind of kindsOver(protocol)) {
              for (const credential of ["good", "revoked"]) {
                const { answers } = await outcome(transport, "Optional", kind, { id: newId(), credential });
                assert.equal(answers.at(-1), "Unavailable", `${protocol} ${kind} ${credential}`);
              }
            }
          }
        } finally {
          parts.commitFails = false;
        }
      });

      test("no call ends before its count is committed", async () => {
        for (const [protocol, transport] of clients) {
          for (const [kind, credential] of [
            ["Unary", "good"],
            ["Down", "good"],
            ["Unary", "revoked"],
            ["Down", "revoked"],
          ] as const) {
            let commit = () => {};
            parts.commit = new Promise((resolve) => {
              commit = resolve;
            });
            try {
              const id = newId();
              let committed = false;
              const ended = outcome(transport, "Optional", kind, { id, credential }).then(() => committed);
              await record(parts, id);
              // What could be answered without the commit would be on its way by now: a call goes there and back.
              parts.commit = undefined;
              await outcome(transport, "Optional", "Unary", { id: newId(), credential: "none" });
              committed = true;
              commit();
              assert.equal(await ended, true, `${protocol} ${kind} ${credential}`);
            } finally {
              parts.commit = undefined;
              commit();
            }
          }
        }
      });
    });
  }
}
