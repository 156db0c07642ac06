/** Verdicts in three ways over one database: from memory, from the tables each time, and by a reference of the test's own. */
import { randomUUID } from "node:crypto";
import type postgres from "postgres";
import { type Credential, createCredentialReader } from "../../src/auth/credential.ts";
import type { AccessRequirement } from "../../src/auth/policy.ts";
import { createToken } from "../../src/auth/token.ts";
import { createDecide, type Decide, type Question, type Verdict } from "../../src/auth/verdict.ts";
import { connect, database } from "../../src/db/client.ts";
import { createGrantCache } from "../../src/keys/cache.ts";
import { createFence } from "../../src/keys/fence.ts";
import { createApiKeyStore } from "../../src/keys/store.ts";
import { createUserStore } from "../../src/users/store.ts";
import { createTestDatabase, openSql } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import { until } from "../harness/until.ts";

const secretKey = "sk_test_0123456789abcdef";
/** Longer than the test takes: what drops a grant is the change that was heard, not its age. */
const maxStalenessMs = 300_000;

/** Some of our shape, some of another's; the last of each is never given to a key. */
export const tokens: readonly string[] = [
  ...Array.from({ length: 4 }, () => createToken("lk")),
  "unkey_3ZabcdefghijklmnopQRSTW",
  "lk_of-another-shape",
  createToken("lk"),
  "unkey_of-nobody",
].map(noteSecret);
/** Those that a key may have. */
export const ownedTokens = 6;

export interface VerdictWorld {
  readonly sql: postgres.Sql;
  readonly cached: Decide;
  /** Reads the tables, once for each credential until `forget`. */
  readonly direct: Decide;
  forget(): void;
  /** What decides what has expired. */
  readonly clock: { nowMs: number };
  /** True: what a look-up reads is kept back until something has changed after it. */
  slow: boolean;
  /** Resolves once what look-ups have begun to read is read, though it may be kept back. */
  read(): Promise<unknown>;
  /** Resolves once every change that was committed before has been heard. */
  heard(): Promise<void>;
  credentialOf(token: string): Credential;
  close(): Promise<void>;
}

export async function createVerdictWorld(databaseUrl?: string): Promise<VerdictWorld> {
  const url = databaseUrl ?? (await createTestDatabase());
  const address = { url };
  const client = connect(address, { max: 2, purpose: "verdicts", statementTimeoutMs: 10_000 });
  const keys = createApiKeyStore(database(client));
  const users = createUserStore(database(client));
  const fence = await createFence({
    connectListener: (events) =>
      connect(address, { max: 1, purpose: "listen", statementTimeoutMs: 0, ...events }),
    heartbeat: connect(address, { max: 1, purpose: "heartbeat", statementTimeoutMs: 10_000 }),
    instanceId: randomUUID(),
    maxStalenessMs,
    onError: (message, error) => {
      throw new Error(message, { cause: error });
    },
  });
  /** What was read and is kept back: as a slow read is, overtaken by the news. */
  let held: (() => void)[] = [];
  let reading = 0;
  const release = () => {
    for (const resolve of held) resolve();
    held = [];
  };
  fence.onChange(release);
  const cache = createGrantCache({
    async readGrants(hashes) {
      reading++;
      const grants = await keys.readGrants(hashes).finally(() => reading--);
      if (world.slow) await new Promise<void>((resolve) => held.push(resolve));
      return grants;
    },
    hasImportedKeys: keys.hasImported,
    readFirstStaffUser: users.firstStaffUser,
    fence,
    maxStalenessMs,
    staleIfErrorMs: 0,
    maxEntries: 100,
  });
  const memo = new Map<string, Promise<unknown>>();
  const once = <T>(name: string, ask: () => Promise<T>): Promise<T> => {
    if (!memo.has(name)) memo.set(name, ask());
    return memo.get(name) as Promise<T>;
  };
  const clock = { nowMs: 0 };
  const now = () => clock.nowMs;
  const sql = openSql(url);
  const readCredential = createCredentialReader({ apiKeyHeader: "x-api-key", tokenPrefix: "lk", secretKey });
  await until(fence.isFresh, Boolean);

  const world: VerdictWorld = {
    sql,
    clock,
    cached: createDecide({ authEnabled: true, grants: cache, now }),
    direct: createDecide({
      authEnabled: true,
      grants: {
        find: (hash) => once(hash, async () => (await keys.readGrants([hash])).get(hash)),
        findSession: () => undefined,
        firstStaffUser: () => once("staff", users.firstStaffUser),
        onChange: () => () => {},
      },
      now,
    }),
    forget: () => memo.clear(),
    slow: false,
    read: () =>
      until(
        () => reading,
        (n) => n === 0,
      ),
    async heard() {
      // Of no key: it is heard after all that was committed before, and drops nothing.
      const marker = randomUUID();
      const { promise, resolve } = Promise.withResolvers<void>();
      const stop = fence.onChange((change) => {
        if (change.kind === "key" && change.apiKeyId === marker) resolve();
      });
      await sql`SELECT pg_notify('latchkey_changes', ${`key:${marker}`})`;
      await promise;
      stop();
    },
    credentialOf: (token) => readCredential((name) => (name === "x-api-key" ? token : undefined)),
    async close() {
      await fence.close();
      await client.end({ timeout: 1 });
      await sql.end();
    },
  };
  return world;
}

/** What is asked after each change: every credential, for every method, from every address, at every access level. */
export const methods = ["a.b.One/Get", "a.b.One/Put", "a.bc.Two/Get", "/"] as const;
export const addresses = ["203.0.113.7", "198.51.100.1", "2001:db8::7", undefined] as const;
const levels: readonly AccessRequirement[] = ["public", "optional", "authenticated", "staff"];

export function allQuestions(world: VerdictWorld): Question[] {
  const credentials: Credential[] = [
    ...tokens.map((token) => world.credentialOf(token)),
    { kind: "secret_key" },
    { kind: "none" },
    { kind: "malformed" },
  ];
  return credentials.flatMap((credential) =>
    methods.flatMap((method) =>
      addresses.flatMap((peerAddress) =>
        levels.map((access) => {
          const [service = "", name = ""] = method.split("/");
          return { credential, method: { service, name }, access, peerAddress };
        }),
      ),
    ),
  );
}

/** The tables, as plain rows. */
export interface Rows {
  readonly keys: ReadonlyMap<string, KeyRow>;
  readonly firstStaff: { id: string; username: string } | undefined;
}

interface KeyRow {
  id: string;
  user_id: string;
  username: string;
  is_staff: boolean;
  is_active: boolean;
  expires_ms: number | null;
  revoked_ms: number | null;
  allowed_methods: string[];
  can_verify: boolean;
  from_anywhere: boolean;
  /** Of `addresses`: those that Postgres finds in the key's blocks. */
  inside: string[];
}

export async function readRows(sql: postgres.Sql): Promise<Rows> {
  const asked = addresses.filter((one) => one !== undefined);
  const keys = await sql<(KeyRow & { hash: string })[]>`
    SELECT encode(k.hash, 'base64') AS hash, k.id, k.user_id, u.username, u.is_staff, u.is_active,
      round(extract(epoch FROM k.expires_at) * 1000)::float8 AS expires_ms,
      round(extract(epoch FROM k.revoked_at) * 1000)::float8 AS revoked_ms,
      k.allowed_methods, k.can_verify, cardinality(k.allowed_addresses) = 0 AS from_anywhere,
      ARRAY(SELECT a FROM unnest(${asked}::text[]) a WHERE a::inet <<= ANY (k.allowed_addresses::inet[])) AS inside
    FROM api_keys k, users u WHERE u.id = k.user_id`;
  const staff = await sql<{ id: string; username: string }[]>`
    SELECT id, username FROM users WHERE is_staff AND is_active ORDER BY id LIMIT 1`;
  return { keys: new Map(keys.map(({ hash, ...row }) => [hash, row])), firstStaff: staff[0] };
}

/** The verdict, worked out from the rows alone, by other code than the one under test. */
export function reference(rows: Rows, question: Question, nowMs: number): Verdict {
  const found = identify(rows, question, nowMs);
  const { denial, principal, credentialKind, subject } = found;
  const isRefused = denial !== undefined;
  const outcome = { principal, subject, credentialKind, deniedSinceMs: undefined };
  switch (question.access) {
    case "public":
      return { ...outcome, denial: undefined };
    case "optional":
      return isRefused ? found : { ...outcome, denial: undefined };
    default:
      if (isRefused) return found;
      if (principal === undefined) return { ...outcome, denial: "MISSING" };
      return {
        ...outcome,
        denial: question.access === "staff" && !principal.isStaff ? "STAFF_REQUIRED" : undefined,
      };
  }
}

function identify(rows: Rows, { credential, method, peerAddress }: Question, nowMs: number): Verdict {
  const nobody = { principal: undefined, subject: undefined, deniedSinceMs: undefined };
  switch (credential.kind) {
    case "none":
      return { ...nobody, denial: undefined, credentialKind: "none" };
    case "malformed":
      return { ...nobody, denial: "MALFORMED", credentialKind: "api_key" };
    case "cross_site":
    case "session":
      throw new Error("this world has keys alone");
    case "secret_key": {
      const { firstStaff } = rows;
      if (firstStaff === undefined) return { ...nobody, denial: "UNKNOWN", credentialKind: "secret_key" };
      const who = { userId: BigInt(firstStaff.id), apiKeyId: undefined };
      const { username } = firstStaff;
      return {
        denial: undefined,
        deniedSinceMs: undefined,
        principal: { ...who, username, isStaff: true, canVerify: true, credentialKind: "secret_key" },
        subject: who,
        credentialKind: "secret_key",
      };
    }
  }
  const row = rows.keys.get(credential.hash);
  if (row === undefined) {
    return { ...nobody, denial: credential.foreign ? "MALFORMED" : "UNKNOWN", credentialKind: "api_key" };
  }
  const subject = { userId: BigInt(row.user_id), apiKeyId: row.id };
  const known = {
    principal: undefined,
    deniedSinceMs: undefined,
    subject,
    credentialKind: "api_key",
  } as const;
  if (row.revoked_ms !== null) return { ...known, denial: "REVOKED", deniedSinceMs: row.revoked_ms };
  if (row.expires_ms !== null && row.expires_ms <= nowMs) {
    return { ...known, denial: "EXPIRED", deniedSinceMs: row.expires_ms };
  }
  if (!row.is_active) return { ...known, denial: "USER_DISABLED" };
  if (!row.from_anywhere && !(peerAddress !== undefined && row.inside.includes(peerAddress))) {
    return { ...known, denial: "ADDRESS_NOT_ALLOWED" };
  }
  const name = `${method.service}/${method.name}`;
  const patterns = row.allowed_methods.map(
    (pattern) => new RegExp(`^${pattern.replace(/[./]/g, "\\$&").replace("*", ".*")}$`),
  );
  const mayCall = patterns.length === 0 || patterns.some((pattern) => pattern.test(name));
  return {
    ...known,
    denial: mayCall ? undefined : "METHOD_NOT_ALLOWED",
    principal: {
      ...subject,
      username: row.username,
      isStaff: row.is_staff,
      canVerify: row.is_staff || row.can_verify,
      credentialKind: "api_key",
    },
  };
}
