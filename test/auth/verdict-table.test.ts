/**
 * The verdict, as a table: every mode × access level × credential × protocol × kind of
 * method. What is expected is written down case by case; nothing of it
 * is worked out by the code under test.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import type postgres from "postgres";
import { getPrincipal, type Principal } from "../../src/auth/principal.ts";
import { createToken } from "../../src/auth/token.ts";
import type { Config } from "../../src/config.ts";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { signedIn } from "../console/browser.ts";
import { createTestDatabase } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import { createUserAndKey, secretKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { callAll, compileTableServices, implement, type Kind, methodOf } from "./table-services.ts";

/** What a method requires in the end. */
type Requirement = "PUBLIC" | "OPTIONAL" | "AUTHENTICATED" | "STAFF";

/** What each service requires of its callers: what it declares itself, or undefined for what the mode says. */
const services: Readonly<Record<string, Requirement | undefined>> = {
  Undeclared: undefined,
  Public: "PUBLIC",
  // Listed in publicMethods, which outranks the STAFF that it declares.
  Listed: "PUBLIC",
  Optional: "OPTIONAL",
  Authenticated: "AUTHENTICATED",
  Staff: "STAFF",
  // The service's option, where the method has none or an unspecified one.
  ServiceStaff: "STAFF",
  Unspecified: "STAFF",
  // The method's option outranks the service's.
  Overridden: "OPTIONAL",
};

interface Mode {
  name: string;
  config: Partial<Config>;
  /** What a method requires that declares nothing; undefined: authentication is off. */
  undeclared: Requirement | undefined;
  acceptsSecretKey: boolean;
  /** The credentials that are walked; undefined: all of the table. */
  credentials?: readonly string[];
}

const secretKeyCredentials = ["secret key, in the header", "secret key, as bearer"];
/** Enough for what differs from another mode in one setting. */
const fewCredentials = [
  "none",
  "good, in the header",
  "malformed, as bearer",
  "good and secret key at once",
  ...secretKeyCredentials,
];

const modes: readonly Mode[] = [
  { name: "disabled", config: { authEnabled: false }, undeclared: undefined, acceptsSecretKey: true },
  { name: "optional", config: { requireAuth: false }, undeclared: "OPTIONAL", acceptsSecretKey: true },
  { name: "required", config: { requireAuth: true }, undeclared: "AUTHENTICATED", acceptsSecretKey: true },
  {
    name: "disabled, whatever is required",
    config: { authEnabled: false, requireAuth: true, acceptSecretKey: false, secretKey },
    undeclared: undefined,
    acceptsSecretKey: false,
    credentials: fewCredentials,
  },
  {
    name: "optional, secret key not accepted",
    config: { requireAuth: false, acceptSecretKey: false, secretKey },
    undeclared: "OPTIONAL",
    acceptsSecretKey: false,
    credentials: fewCredentials,
  },
  {
    name: "required, secret key not accepted",
    config: { requireAuth: true, acceptSecretKey: false, secretKey },
    undeclared: "AUTHENTICATED",
    acceptsSecretKey: false,
    credentials: fewCredentials,
  },
];

/**
 * For each credential: what kind the request log calls it, whom it names there, and for
 * each requirement either whom the handler sees or the reason of the refusal.
 */
const table = `
credential                    | kind       | names | PUBLIC    | OPTIONAL            | AUTHENTICATED       | STAFF
none                          | none       | -     | anonymous | anonymous           | MISSING             | MISSING
good, in the header           | api_key    | ada   | ada       | ada                 | ada                 | STAFF_REQUIRED
good, as bearer               | api_key    | ada   | ada       | ada                 | ada                 | STAFF_REQUIRED
good, in both                 | api_key    | ada   | ada       | ada                 | ada                 | STAFF_REQUIRED
good, beside another scheme   | api_key    | ada   | ada       | ada                 | ada                 | STAFF_REQUIRED
another scheme                | none       | -     | anonymous | anonymous           | MISSING             | MISSING
staff, in the header          | api_key    | grace | grace     | grace               | grace               | grace
staff, as bearer              | api_key    | grace | grace     | grace               | grace               | grace
malformed, in the header      | api_key    | -     | anonymous | MALFORMED           | MALFORMED           | MALFORMED
malformed, as bearer          | api_key    | -     | anonymous | MALFORMED           | MALFORMED           | MALFORMED
bearer of nothing             | api_key    | -     | anonymous | MALFORMED           | MALFORMED           | MALFORMED
empty header                  | api_key    | -     | anonymous | MALFORMED           | MALFORMED           | MALFORMED
unknown, in the header        | api_key    | -     | anonymous | UNKNOWN             | UNKNOWN             | UNKNOWN
unknown, as bearer            | api_key    | -     | anonymous | UNKNOWN             | UNKNOWN             | UNKNOWN
expired                       | api_key    | old   | anonymous | EXPIRED             | EXPIRED             | EXPIRED
expired, of staff             | api_key    | aged  | anonymous | EXPIRED             | EXPIRED             | EXPIRED
revoked                       | api_key    | gone  | anonymous | REVOKED             | REVOKED             | REVOKED
revoked, of staff             | api_key    | ended | anonymous | REVOKED             | REVOKED             | REVOKED
user disabled                 | api_key    | dora  | anonymous | USER_DISABLED       | USER_DISABLED       | USER_DISABLED
staff user disabled           | api_key    | drew  | anonymous | USER_DISABLED       | USER_DISABLED       | USER_DISABLED
for these methods             | api_key    | here  | here      | here                | here                | STAFF_REQUIRED
for other methods             | api_key    | else  | else      | METHOD_NOT_ALLOWED  | METHOD_NOT_ALLOWED  | METHOD_NOT_ALLOWED
from this address             | api_key    | near  | near      | near                | near                | STAFF_REQUIRED
from another address          | api_key    | far   | anonymous | ADDRESS_NOT_ALLOWED | ADDRESS_NOT_ALLOWED | ADDRESS_NOT_ALLOWED
two good ones at once         | api_key    | -     | anonymous | MALFORMED           | MALFORMED           | MALFORMED
good and unknown at once      | api_key    | -     | anonymous | MALFORMED           | MALFORMED           | MALFORMED
good and secret key at once   | api_key    | -     | anonymous | MALFORMED           | MALFORMED           | MALFORMED
secret key, in the header     | secret_key | admin | admin     | admin               | admin               | admin
secret key, as bearer         | secret_key | admin | admin     | admin               | admin               | admin
nearly the secret key         | api_key    | -     | anonymous | MALFORMED           | MALFORMED           | MALFORMED
session                       | session    | eve   | eve       | eve                 | eve                 | STAFF_REQUIRED
session of staff              | session    | gil   | gil       | gil                 | gil                 | gil
session, for other methods    | session    | else  | else      | METHOD_NOT_ALLOWED  | METHOD_NOT_ALLOWED  | METHOD_NOT_ALLOWED
session of a revoked key      | session    | gone  | anonymous | REVOKED             | REVOKED             | REVOKED
session that nobody has       | session    | -     | anonymous | UNKNOWN             | UNKNOWN             | UNKNOWN
session, from another site    | session    | -     | anonymous | CROSS_SITE          | CROSS_SITE          | CROSS_SITE
session, beside a good key    | api_key    | ada   | ada       | ada                 | ada                 | STAFF_REQUIRED
`;

/** What a secret key is where none is accepted: a string that is no token. */
const unacceptedSecretKey =
  "api_key    | -     | anonymous | MALFORMED          | MALFORMED          | MALFORMED";

/** How each refusal is told. `since` stands for a time that the caller is told. */
const refusals: Readonly<
  Record<string, readonly [code: Code, reason: string, wwwAuthenticate: string | null, message: string]>
> = {
  MISSING: [
    Code.Unauthenticated,
    "MISSING",
    "Bearer",
    "this method needs an API key: send its token in the x-api-key header, or as authorization: Bearer",
  ],
  // These two alike: a guesser learns nothing from the difference.
  MALFORMED: [Code.Unauthenticated, "INVALID_API_KEY", 'Bearer error="invalid_token"', "invalid API key"],
  UNKNOWN: [Code.Unauthenticated, "INVALID_API_KEY", 'Bearer error="invalid_token"', "invalid API key"],
  REVOKED: [
    Code.Unauthenticated,
    "REVOKED",
    'Bearer error="invalid_token"',
    "this API key was revoked at since",
  ],
  EXPIRED: [Code.Unauthenticated, "EXPIRED", 'Bearer error="invalid_token"', "this API key expired at since"],
  USER_DISABLED: [
    Code.Unauthenticated,
    "USER_DISABLED",
    'Bearer error="invalid_token"',
    "the user of this API key is disabled",
  ],
  STAFF_REQUIRED: [Code.PermissionDenied, "STAFF_REQUIRED", null, "this method needs a staff user's API key"],
  METHOD_NOT_ALLOWED: [
    Code.PermissionDenied,
    "METHOD_NOT_ALLOWED",
    null,
    "this API key may not call this method",
  ],
  ADDRESS_NOT_ALLOWED: [
    Code.PermissionDenied,
    "ADDRESS_NOT_ALLOWED",
    null,
    "this API key may not be used from this address",
  ],
  "session UNKNOWN": [
    Code.Unauthenticated,
    "INVALID_SESSION",
    'Bearer error="invalid_token"',
    "this session has ended: sign in again",
  ],
  "session REVOKED": [
    Code.Unauthenticated,
    "REVOKED",
    'Bearer error="invalid_token"',
    "this session has ended, because its API key was revoked at since: sign in with another",
  ],
  "session STAFF_REQUIRED": [Code.PermissionDenied, "STAFF_REQUIRED", null, "this method needs a staff user"],
  "session METHOD_NOT_ALLOWED": [
    Code.PermissionDenied,
    "METHOD_NOT_ALLOWED",
    null,
    "the API key of this session may not call this method",
  ],
  "session CROSS_SITE": [
    Code.PermissionDenied,
    "CROSS_SITE",
    null,
    "a session counts only in requests of this server's own page: for others send an API key; if this page is the server's own, have the proxy before it pass on the Host header",
  ],
};

interface Protocol {
  name: string;
  /** As the request log has it. */
  logged: string;
  kinds: readonly Kind[];
  connect(baseUrl: string): Transport;
}

const protocols: readonly Protocol[] = [
  {
    name: "gRPC",
    logged: "grpc",
    kinds: ["Unary", "Down", "Up", "Both"],
    connect: (baseUrl) => createGrpcTransport({ baseUrl }),
  },
  {
    name: "gRPC-Web, HTTP/1.1",
    logged: "grpc-web",
    kinds: ["Unary", "Down"],
    connect: (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
  },
  {
    name: "Connect JSON, HTTP/1.1",
    logged: "connect",
    kinds: ["Unary", "Down", "Up"],
    connect: (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
  },
  {
    name: "Connect GET, HTTP/1.1",
    logged: "connect",
    kinds: ["Unary"],
    connect: (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1", useHttpGet: true }),
  },
  {
    name: "Connect proto, HTTP/2",
    logged: "connect",
    kinds: ["Unary", "Down", "Both"],
    connect: (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: true }),
  },
];

/** All that is held of one call. */
interface Outcome {
  code: Code | 0;
  /** Of the ErrorInfo, with its domain. */
  reason: string | undefined;
  wwwAuthenticate: string | null;
  message: string | undefined;
  since: string | undefined;
  /** How often the handler ran. */
  ran: number;
  /** Whom it saw. */
  saw: string | undefined;
  /** The rows of the request log. */
  logged: LogRow[];
}

interface LogRow {
  protocol: string;
  code: number;
  denialReason: string | null;
  credentialKind: string;
  names: string;
}

interface Named {
  apiKeyId: string | undefined;
  userId: bigint;
  isStaff: boolean;
  token: string;
  /** When the key was revoked or expired, as the caller is told it. */
  since?: string;
}

let databaseUrl: string;
let compiled: Record<string, DescService>;
let headersOf: Record<string, Record<string, string>>;
const named: Record<string, Named> = {};
/** Of the sessions, by their users. */
const cookies = new Map<string, string>();
/** Whom the handlers saw, by request id. */
const seen = new Map<string, string[]>();
/** Calls that a key's principal was behind, as the table has it. */
const expectedCounts = new Map<string, number>();

before(async () => {
  compiled = compileTableServices();
  databaseUrl = await createTestDatabase();
  const latchkey = await startServer({ databaseUrl });
  try {
    await createCredentials(latchkey);
  } finally {
    await latchkey.close();
  }
});

async function createCredentials({ asStaff, sql, url }: TestServer): Promise<void> {
  const idOf = (name: string) => named[name]!.apiKeyId!;
  const usernames = "ada grace old aged gone ended dora drew here else near far eve gil".split(" ");
  for (const username of usernames) {
    const isStaff = ["grace", "aged", "ended", "drew", "gil"].includes(username);
    named[username] = { ...(await createUserAndKey(asStaff, username)), isStaff };
  }
  await sql`UPDATE users SET is_staff = true WHERE username IN ('grace', 'aged', 'ended', 'drew', 'gil')`;
  for (const name of ["eve", "gil", "else", "gone"]) {
    const { cookie = "" } = await signedIn(url, named[name]!.token);
    cookies.set(name, cookie);
    // The sign-in itself.
    expectedCounts.set(idOf(name), 1);
  }
  await sql`UPDATE users SET is_active = false WHERE username IN ('dora', 'drew')`;
  for (const [name, expiresAt] of [
    ["old", "2020-01-02T03:04:05.678Z"],
    ["aged", "2021-02-03T04:05:06.789Z"],
  ] as const) {
    await sql`UPDATE api_keys SET expires_at = ${expiresAt} WHERE id = ${idOf(name)}`;
    named[name]!.since = expiresAt;
  }
  for (const name of ["gone", "ended"]) {
    await asStaff.keys.revokeApiKey({ id: idOf(name) });
    const [row] = await sql<{ revoked_at: Date }[]>`SELECT revoked_at FROM api_keys WHERE id = ${idOf(name)}`;
    named[name]!.since = row!.revoked_at.toISOString();
  }
  await sql`UPDATE api_keys SET allowed_methods = '{test.access.*}' WHERE id = ${idOf("here")}`;
  await sql`UPDATE api_keys SET allowed_methods = '{api.users.UserService/*}' WHERE id = ${idOf("else")}`;
  await sql`UPDATE api_keys SET allowed_addresses = '{::1/128,127.0.0.0/8}' WHERE id = ${idOf("near")}`;
  await sql`UPDATE api_keys SET allowed_addresses = '{::1/128,10.0.0.0/8}' WHERE id = ${idOf("far")}`;
  const [admin] = await sql<{ id: string; username: string }[]>`
    SELECT id, username FROM users WHERE is_staff AND is_active ORDER BY id LIMIT 1`;
  assert.equal(admin?.username, "admin");
  named.admin = { apiKeyId: undefined, userId: BigInt(admin.id), isStaff: true, token: secretKey };
  headersOf = headersByCredential();
}

function headersByCredential(): Record<string, Record<string, string>> {
  const token = (name: string) => named[name]!.token;
  const header = (value: string) => ({ "x-api-key": value });
  const bearer = (value: string) => ({ authorization: `Bearer ${value}` });
  const ada = token("ada");
  const malformed = noteSecret(`${ada.slice(0, -1)}${ada.endsWith("a") ? "b" : "a"}`);
  const unknown = noteSecret(createToken("lk"));
  const session = (name: string) => ({ cookie: cookies.get(name)!, "sec-fetch-site": "same-origin" });
  return {
    none: {},
    "good, in the header": header(ada),
    "good, as bearer": bearer(ada),
    "good, in both": { ...header(ada), ...bearer(ada) },
    "good, beside another scheme": { ...header(ada), authorization: "Basic YTpi" },
    "another scheme": { authorization: "Basic YTpi" },
    "staff, in the header": header(token("grace")),
    "staff, as bearer": bearer(token("grace")),
    "malformed, in the header": header(malformed),
    "malformed, as bearer": bearer(malformed),
    "bearer of nothing": { authorization: "Bearer" },
    "empty header": header(""),
    "unknown, in the header": header(unknown),
    "unknown, as bearer": bearer(unknown),
    expired: header(token("old")),
    "expired, of staff": bearer(token("aged")),
    revoked: header(token("gone")),
    "revoked, of staff": bearer(token("ended")),
    "user disabled": header(token("dora")),
    "staff user disabled": bearer(token("drew")),
    "for these methods": header(token("here")),
    "for other methods": header(token("else")),
    "from this address": header(token("near")),
    "from another address": bearer(token("far")),
    "two good ones at once": { ...header(ada), ...bearer(token("grace")) },
    "good and unknown at once": { ...header(ada), ...bearer(unknown) },
    "good and secret key at once": { ...header(secretKey), ...bearer(ada) },
    "secret key, in the header": header(secretKey),
    "secret key, as bearer": bearer(secretKey),
    "nearly the secret key": header(noteSecret(`${secretKey}0`)),
    session: session("eve"),
    "session of staff": session("gil"),
    "session, for other methods": session("else"),
    "session of a revoked key": session("gone"),
    "session that nobody has": { ...session("eve"), cookie: `latchkey_session=${unknown}` },
    "session, from another site": { ...session("gil"), "sec-fetch-site": "cross-site" },
    "session, beside a good key": { ...session("gil"), ...header(ada) },
  };
}

/** A principal in one line. */
function show(principal: Principal | undefined): string {
  if (principal === undefined) return "anonymous";
  const { username, userId, isStaff, credentialKind, apiKeyId } = principal;
  return `${username} ${userId} ${isStaff ? "staff" : "not staff"} ${credentialKind} ${apiKeyId}`;
}

/** The line that {@link show} must give for a name of the table. */
function showNamed(name: string, credentialKind?: string): string {
  if (name === "anonymous") return name;
  const { userId, isStaff, apiKeyId } = named[name]!;
  const kind = credentialKind ?? (apiKeyId === undefined ? "secret_key" : "api_key");
  return `${name} ${userId} ${isStaff ? "staff" : "not staff"} ${kind} ${apiKeyId}`;
}

function routes(router: ConnectRouter): void {
  const implementation = implement((asked, context) => {
    const id = context.requestHeader.get("x-request-id") ?? "";
    const saw = show(getPrincipal(context));
    seen.set(id, [...(seen.get(id) ?? []), saw]);
    return (async function* () {
      for await (const _ of asked);
      yield saw;
    })();
  });
  for (const service of Object.values(compiled)) router.service(service, implementation);
}

const [titles = [], ...rows] = table
  .trim()
  .split("\n")
  .map((line) => line.split("|").map((field) => field.trim()));

const allCredentials = rows.map(([credential = ""]) => credential);

/** Looks up in the table what a call must come to. */
function expected(mode: Mode, service: string, credential: string, protocol: string): Outcome {
  const required = services[service] ?? mode.undeclared;
  let row = rows.find(([name]) => name === credential) ?? [];
  if (!mode.acceptsSecretKey && secretKeyCredentials.includes(credential)) {
    row = [credential, ...unacceptedSecretKey.split("|").map((field) => field.trim())];
  }
  const authIsOff = mode.config.authEnabled === false;
  const [, kind = "", names = ""] = authIsOff ? ["", "none", "-"] : row;
  const result = authIsOff ? "anonymous" : (row[titles.indexOf(required ?? "")] ?? "");
  const logged = { protocol, credentialKind: kind, names: names === "-" ? "nobody" : showNamed(names) };
  const refusal = refusals[`${kind} ${result}`] ?? refusals[result];
  if (refusal === undefined) {
    return {
      code: 0,
      reason: undefined,
      wwwAuthenticate: null,
      message: undefined,
      since: undefined,
      ran: 1,
      saw: showNamed(result, kind),
      logged: [{ ...logged, code: 0, denialReason: null }],
    };
  }
  const [code, reason, wwwAuthenticate, message] = refusal;
  const since = result === "REVOKED" || result === "EXPIRED" ? named[names]?.since : undefined;
  return {
    code,
    reason: `${reason} latchkey`,
    wwwAuthenticate,
    message: message.replace("since", since ?? "since"),
    since,
    ran: 0,
    saw: undefined,
    logged: [{ ...logged, code, denialReason: result }],
  };
}

/** Calls, and tells what came back. */
async function observe(
  transport: Transport,
  service: string,
  kind: Kind,
  credential: string,
  id: string,
): Promise<Omit<Outcome, "logged">> {
  const headers = { ...headersOf[credential], "x-request-id": id };
  const ran = () => ({ ran: seen.get(id)?.length ?? 0, saw: seen.get(id)?.[0] });
  try {
    const answers = await callAll(transport, methodOf(compiled[service], kind), { headers });
    // The caller is answered by the handler that ran for it, and by no other.
    assert.deepEqual(answers, seen.get(id) ?? []);
    return {
      code: 0,
      reason: undefined,
      wwwAuthenticate: null,
      message: undefined,
      since: undefined,
      ...ran(),
    };
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    const [info] = error.findDetails(ErrorInfoSchema);
    return {
      code: error.code,
      reason: info && `${info.reason} ${info.domain}`,
      wwwAuthenticate: error.metadata.get("www-authenticate"),
      message: error.rawMessage,
      since: info?.metadata.since,
      ...ran(),
    };
  }
}

/** The rows that the request log has of calls whose id begins so. */
async function logRows(sql: postgres.Sql, prefix: string): Promise<Map<string, LogRow[]>> {
  const found = await sql<Record<string, string>[]>`
    SELECT request_id, protocol, code, denial_reason, credential_kind, user_id, api_key_id
    FROM request_logs WHERE starts_with(request_id, ${prefix})`;
  const byId = new Map<string, LogRow[]>();
  for (const row of found) {
    const somebody = Object.entries(named).find(
      ([, { userId, apiKeyId }]) => String(userId) === row.user_id && (apiKeyId ?? null) === row.api_key_id,
    );
    const anyone = row.user_id === null && row.api_key_id === null ? "nobody" : "somebody else";
    const logged: LogRow = {
      protocol: row.protocol ?? "",
      code: Number(row.code),
      denialReason: row.denial_reason ?? null,
      credentialKind: row.credential_kind ?? "",
      names: somebody === undefined ? anyone : showNamed(somebody[0]),
    };
    byId.set(row.request_id ?? "", [...(byId.get(row.request_id ?? "") ?? []), logged]);
  }
  return byId;
}

function countExpected(mode: Mode, credential: string, outcome: Outcome): void {
  if (mode.config.authEnabled === false) return;
  const denial = outcome.logged[0]?.denialReason;
  const hasPrincipal =
    (outcome.saw !== undefined && outcome.saw !== "anonymous") ||
    denial === "STAFF_REQUIRED" ||
    denial === "METHOD_NOT_ALLOWED";
  const apiKeyId = named[rows.find(([name]) => name === credential)?.[2] ?? ""]?.apiKeyId;
  if (hasPrincipal && apiKeyId !== undefined) {
    expectedCounts.set(apiKeyId, (expectedCounts.get(apiKeyId) ?? 0) + 1);
  }
}

/** Walks all credentials, protocols and kinds of method of one service; returns how many calls that were. */
async function walk(latchkey: TestServer, mode: Mode, service: string): Promise<number> {
  const cells = protocols.flatMap((protocol) => {
    const transport = protocol.connect(latchkey.url);
    return protocol.kinds.flatMap((kind) =>
      (mode.credentials ?? allCredentials).map((credential) => ({ protocol, transport, kind, credential })),
    );
  });
  const prefix = `${modes.indexOf(mode)}.${service}.`;
  const outcomes: { cell: string; id: string; wanted: Outcome; found: Omit<Outcome, "logged"> }[] = [];
  let next = 0;
  const worker = async () => {
    for (;;) {
      const n = next++;
      const cell = cells[n];
      if (cell === undefined) return;
      const { protocol, transport, kind, credential } = cell;
      const id = `${prefix}${n}`;
      const wanted = expected(mode, service, credential, protocol.logged);
      countExpected(mode, credential, wanted);
      const found = await observe(transport, service, kind, credential, id);
      outcomes.push({
        cell: `${mode.name}; ${service}.${kind}; ${credential}; ${protocol.name}`,
        id,
        wanted,
        found,
      });
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  const logged = await until(
    () => logRows(latchkey.sql, prefix),
    (byId) => byId.size >= cells.length,
  );
  const wrong = outcomes.flatMap(({ cell, id, wanted, found }) => {
    const whole: Outcome = { ...found, logged: logged.get(id) ?? [] };
    try {
      assert.deepEqual(whole, wanted);
      return [];
    } catch (error) {
      return [`${cell}: ${error instanceof Error ? error.message : error}`];
    }
  });
  assert.equal(
    wrong.length,
    0,
    `${wrong.length} of ${cells.length} are wrong:\n${wrong.slice(0, 5).join("\n")}`,
  );
  return cells.length;
}

let walked = 0;

for (const mode of modes) {
  test(`with authentication ${mode.name}`, async (t) => {
    const latchkey = await startServer(
      {
        ...mode.config,
        databaseUrl,
        publicMethods: ["test.access.Listed/*"],
        logLevel: "warn",
      },
      { routes },
    );
    try {
      for (const service of Object.keys(services)) {
        await t.test(
          `a method of ${service} answers, refuses and logs each credential as the table says`,
          async () => {
            walked += await walk(latchkey, mode, service);
          },
        );
      }
    } finally {
      await latchkey.close();
    }
  });
}

test("the table was walked whole, and each call has one row", async () => {
  // 3 modes with 37 credentials and 3 with 6 × 9 services × 13 pairs of protocol and kind of method.
  assert.equal(walked, (3 * 37 + 3 * 6) * 9 * 13);
  const latchkey = await startServer({ databaseUrl });
  try {
    const [count] = await latchkey.sql<{ rows: string; ids: string }[]>`
      SELECT count(*) AS rows, count(DISTINCT request_id) AS ids
      FROM request_logs WHERE service LIKE 'test.access.%'`;
    assert.deepEqual({ ...count }, { rows: String(walked), ids: String(walked) });
  } finally {
    await latchkey.close();
  }
});

test("a key's count is the number of calls that its principal was behind, refused ones included", async () => {
  const latchkey = await startServer({ databaseUrl });
  try {
    const counts = await latchkey.sql<{ api_key_id: string; request_count: string }[]>`
      SELECT api_key_id, request_count FROM api_key_usage WHERE request_count > 0`;
    assert.deepEqual(
      new Map(counts.map((row) => [row.api_key_id, Number(row.request_count)])),
      expectedCounts,
    );
  } finally {
    await latchkey.close();
  }
});
