/**
 * The tables. Each says what it holds, and each index which query it serves.
 *
 * What Drizzle cannot declare was added to the migrations by hand: `request_logs`
 * is partitioned by day, the rollups by period and then by day or month, each with a
 * default partition (`db/partitions.ts` makes the others), `api_key_usage` has room
 * for updates in place, `request_log_tail` is not logged, `request_log_packs` is not compressed,
 * and triggers tell every change that a verdict depends on.
 */
import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  check,
  customType,
  date,
  index,
  inet,
  integer,
  jsonb,
  pgEnum,
  pgTable,
  primaryKey,
  smallint,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";

const bytea = customType<{ data: Buffer }>({ dataType: () => "bytea" });
const instant = (name: string) => timestamp(name, { withTimezone: true, precision: 6 });

export const apiKeyType = pgEnum("api_key_type", ["service", "cli", "webhook", "internal", "development"]);

export const revocationReason = pgEnum("revocation_reason", [
  "unspecified",
  "unused",
  "rotated",
  "compromised",
  "user_ended",
]);

/** Whom a credential signs in. */
export const users = pgTable(
  "users",
  {
    id: bigint("id", { mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity(),
    username: text("username").notNull(),
    /** The username as it is compared: see `foldUsername`. In a column, since what lower() does differs by database. */
    usernameKey: text("username_key").notNull(),
    email: text("email").notNull().default(""),
    bio: text("bio").notNull().default(""),
    isStaff: boolean("is_staff").notNull().default(false),
    /** False: disabled. Every credential of the user is refused. */
    isActive: boolean("is_active").notNull().default(true),
    createdAt: instant("created_at").notNull().defaultNow(),
    updatedAt: instant("updated_at").notNull().defaultNow(),
  },
  (t) => [
    // A username is taken without regard to case.
    uniqueIndex("users_username_key").on(t.usernameKey),
    // The secret key signs in as the first active staff user; the last one cannot be removed.
    index("users_active_staff_idx").on(t.id).where(sql`${t.isStaff} AND ${t.isActive}`),
  ],
);

/** API keys. What an RPC changes of a key is in `api_key_usage`, so that counting never touches this row. */
export const apiKeys = pgTable(
  "api_keys",
  {
    /** UUIDv7: the order of ids is the order of creation. */
    id: uuid("id").primaryKey(),
    userId: bigint("user_id", { mode: "bigint" })
      .notNull()
      .references(() => users.id, { onDelete: "cascade" }),
    name: text("name").notNull(),
    description: text("description").notNull().default(""),
    type: apiKeyType("type").notNull(),
    /** SHA-256 of the token. */
    hash: bytea("hash").notNull(),
    /** The token's first characters, to recognise it by. */
    start: text("start").notNull(),
    /** Method patterns; empty: whatever the user may call. */
    allowedMethods: text("allowed_methods").array().notNull().default([]),
    /** CIDR blocks; empty: from anywhere. */
    allowedAddresses: text("allowed_addresses").array().notNull().default([]),
    /** May ask for verdicts on other keys, though its user is not staff. */
    canVerify: boolean("can_verify").notNull().default(false),
    /** Made from another system's hash: its token may be of any shape. */
    imported: boolean("imported").notNull().default(false),
    expiresAt: instant("expires_at"),
    revokedAt: instant("revoked_at"),
    revocationReason: revocationReason("revocation_reason"),
    revocationNote: text("revocation_note"),
    /** The key that this one replaced by rotation. */
    rotatedFrom: uuid("rotated_from"),
    /** A user's id, without a foreign key: deleting that user must not touch the keys it made for others. */
    createdBy: bigint("created_by", { mode: "bigint" }),
    createdAt: instant("created_at").notNull().defaultNow(),
    updatedAt: instant("updated_at").notNull().defaultNow(),
  },
  (t) => [
    // The look-up of a verdict.
    uniqueIndex("api_keys_hash_key").on(t.hash),
    // One user's keys, newest first.
    index("api_keys_user_idx").on(t.userId, t.id),
    // Keys that expire soon, the soonest first.
    index("api_keys_expires_idx")
      .on(t.expiresAt, t.id)
      .where(sql`${t.expiresAt} IS NOT NULL AND ${t.revokedAt} IS NULL`),
    // By name, without regard to case.
    index("api_keys_name_idx").on(sql`lower(${t.name})`, t.id),
    // By expiry, those that never expire being the last.
    index("api_keys_expiry_idx").on(sql`coalesce(${t.expiresAt}, 'infinity')`, t.id),
    // What a key was rotated into. A key is rotated once.
    uniqueIndex("api_keys_rotated_from_key").on(t.rotatedFrom).where(sql`${t.rotatedFrom} IS NOT NULL`),
    // Whether a token of another shape can be anyone's.
    index("api_keys_imported_idx").on(t.id).where(sql`${t.imported}`),
  ],
);

/**
 * What each key has used: one narrow row a key, updated in place. What an index
 * holds of it changes once a day at most, which keeps the other updates HOT.
 */
export const apiKeyUsage = pgTable(
  "api_key_usage",
  {
    apiKeyId: uuid("api_key_id")
      .primaryKey()
      .references(() => apiKeys.id, { onDelete: "cascade" }),
    requestCount: bigint("request_count", { mode: "bigint" }).notNull().default(sql`0`),
    lastUsedAt: instant("last_used_at"),
    /** The day (UTC) of the last use; of the creation until then. */
    idleSince: date("idle_since", { mode: "string" })
      .notNull()
      .default(sql`(now() AT TIME ZONE 'UTC')::date`),
  },
  (t) => [
    // Keys that have not been used for long, the longest first.
    index("api_key_usage_idle_idx").on(t.idleSince, t.apiKeyId),
  ],
);

/** Requests that made a key, by the id that their sender chose: sent again within a day, they make no other. */
export const idempotentRequests = pgTable(
  "idempotent_requests",
  {
    /** Who sent it. */
    userId: bigint("user_id", { mode: "bigint" })
      .notNull()
      .references(() => users.id, { onDelete: "cascade" }),
    requestId: text("request_id").notNull(),
    /** SHA-256 of what was asked for: another request with the same id is a mistake. */
    digest: bytea("digest").notNull(),
    /** The key that it made. */
    apiKeyId: uuid("api_key_id")
      .notNull()
      .references(() => apiKeys.id, { onDelete: "cascade" }),
    createdAt: instant("created_at").notNull().defaultNow(),
  },
  (t) => [
    primaryKey({ columns: [t.userId, t.requestId] }),
    // Sweeping out what is older than a day.
    index("idempotent_requests_created_idx").on(t.createdAt),
    // Deleting a key deletes what made it.
    index("idempotent_requests_api_key_idx").on(t.apiKeyId),
  ],
);

/**
 * One row for each RPC that ended. Partitioned by day on `time`. Users, keys and
 * instances are named by id without a foreign key: the log outlives them.
 */
export const requestLogs = pgTable(
  "request_logs",
  {
    /** When the RPC began. */
    time: instant("time").notNull(),
    /** UUIDv7, made by the instance that answered; with `time`, the order of the listing. */
    id: uuid("id").notNull(),
    service: text("service").notNull(),
    method: text("method").notNull(),
    protocol: text("protocol").notNull(),
    /** google.rpc.Code. */
    code: smallint("code").notNull(),
    denialReason: text("denial_reason"),
    userId: bigint("user_id", { mode: "bigint" }),
    apiKeyId: uuid("api_key_id"),
    credentialKind: text("credential_kind").notNull(),
    durationUs: bigint("duration_us", { mode: "bigint" }).notNull(),
    requestBytes: bigint("request_bytes", { mode: "bigint" }),
    responseBytes: bigint("response_bytes", { mode: "bigint" }),
    peerAddress: inet("peer_address"),
    userAgent: text("user_agent").notNull().default(""),
    /** The client's own; null: it sent none, and the call's id stands for it. */
    requestId: text("request_id"),
    instanceId: uuid("instance_id").notNull(),
    errorMessage: text("error_message"),
    /** 32 hexadecimal digits, as in `traceparent`. */
    traceId: text("trace_id"),
  },
  (t) => [
    primaryKey({ columns: [t.time, t.id] }),
    // Rows by one key, user, method, code or denial reason, newest first: one index for each filter
    // that few rows may match.
    index("request_logs_api_key_idx").on(t.apiKeyId, t.time, t.id).where(sql`${t.apiKeyId} IS NOT NULL`),
    index("request_logs_user_idx").on(t.userId, t.time, t.id).where(sql`${t.userId} IS NOT NULL`),
    index("request_logs_method_idx").on(t.service, t.method, t.time, t.id),
    index("request_logs_code_idx").on(t.code, t.time, t.id).where(sql`${t.code} <> 0`),
    index("request_logs_denial_idx")
      .on(t.denialReason, t.time, t.id)
      .where(sql`${t.denialReason} IS NOT NULL`),
    // Rows of one trace. Costs nothing where callers send none.
    index("request_logs_trace_idx").on(t.traceId, t.time, t.id).where(sql`${t.traceId} IS NOT NULL`),
  ],
);

/**
 * Rows of the request log as they came, a batch in one row: what more calls leave than can be laid out
 * in rows and indexes at once. See `usage/pack-store.ts`.
 */
export const requestLogPacks = pgTable(
  "request_log_packs",
  {
    id: bigint("id", { mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity(),
    instanceId: uuid("instance_id").notNull(),
    committedAt: instant("committed_at").notNull().defaultNow(),
    rows: integer("rows").notNull(),
    /** What the times of its calls count from, in milliseconds since the epoch. */
    baseMs: bigint("base_ms", { mode: "bigint" }).notNull(),
    /** Its columns, each as the literal of an array: see `callColumns`. */
    columns: text("columns").array().notNull(),
  },
  // An instance of another version that has other columns is refused, and writes rows instead.
  (t) => [check("request_log_packs_columns_check", sql`cardinality(${t.columns}) = 24`)],
);

/** Instances that somebody tails the log on: while there is one, every batch leaves its ids in `request_log_tail`. */
export const requestLogTails = pgTable("request_log_tails", {
  instanceId: uuid("instance_id").primaryKey(),
  expiresAt: instant("expires_at").notNull(),
});

/** The rows of the newest batches, for those who tail the log; swept within a minute. */
export const requestLogTail = pgTable(
  "request_log_tail",
  {
    instanceId: uuid("instance_id").notNull(),
    /** Of the instance: see `instances.last_batch`. */
    batch: bigint("batch", { mode: "bigint" }).notNull(),
    committedAt: instant("committed_at").notNull().defaultNow(),
    /** The primary keys of the batch's rows. */
    times: instant("times").array().notNull(),
    ids: uuid("ids").array().notNull(),
    /** Rows of the batch that are not among these, as they are packed. */
    packedRows: integer("packed_rows").notNull().default(0),
  },
  // What has come since the last look.
  (t) => [primaryKey({ columns: [t.instanceId, t.batch] })],
);

/** What both rollups count; `period_s` is the length of the bucket that starts at `bucket`. */
const rollupColumns = () => ({
  /** 60: written with the log rows. 3600 and 86400: folded from them by `usage/fold.ts`. */
  periodS: integer("period_s").notNull(),
  bucket: instant("bucket").notNull(),
  service: text("service").notNull(),
  method: text("method").notNull(),
  code: smallint("code").notNull(),
  /** Empty: not refused. */
  denialReason: text("denial_reason").notNull().default(""),
  requests: bigint("requests", { mode: "bigint" }).notNull(),
  durationUs: bigint("duration_us", { mode: "bigint" }).notNull(),
  requestBytes: bigint("request_bytes", { mode: "bigint" }).notNull(),
  responseBytes: bigint("response_bytes", { mode: "bigint" }).notNull(),
  /** Counts by latency bucket (usage/histogram.ts), trailing zeros left out; merged by adding. */
  latency: integer("latency").array().notNull(),
});

/** Requests by method, code and denial reason: the overview, whatever the number of keys. */
export const methodRollups = pgTable("method_rollups", rollupColumns(), (t) => [
  // A range of one period; and where the writer merges.
  primaryKey({
    name: "method_rollups_pk",
    columns: [t.periodS, t.bucket, t.service, t.method, t.code, t.denialReason],
  }),
]);

/** Requests that named a user, by key: one key's or one user's traffic, as the request log has it. */
export const keyRollups = pgTable(
  "key_rollups",
  {
    ...rollupColumns(),
    /** All zeros: signed in otherwise than by a key. */
    apiKeyId: uuid("api_key_id").notNull(),
    userId: bigint("user_id", { mode: "bigint" }).notNull(),
  },
  (t) => [
    // One key's series; and where the writer merges.
    primaryKey({
      name: "key_rollups_pk",
      columns: [t.apiKeyId, t.userId, t.periodS, t.bucket, t.service, t.method, t.code, t.denialReason],
    }),
    // One user's series.
    index("key_rollups_user_idx").on(t.userId, t.periodS, t.bucket),
    // The keys and users of a range.
    index("key_rollups_bucket_idx").on(t.periodS, t.bucket),
  ],
);

/**
 * The keys and users with the most requests of each hour and day that was folded, so
 * that the busiest of a month are found without looking at every key.
 */
export const rollupTops = pgTable(
  "rollup_tops",
  {
    /** 3600 or 86400. */
    periodS: integer("period_s").notNull(),
    bucket: instant("bucket").notNull(),
    /** "key" or "user". */
    kind: text("kind").notNull(),
    /** From 1. */
    rank: integer("rank").notNull(),
    /** 0 in the row of the calls without a key. */
    userId: bigint("user_id", { mode: "bigint" }).notNull(),
    /** All zeros in a row of a user, and in the row of all calls that named a user without a key. */
    apiKeyId: uuid("api_key_id").notNull(),
    requests: bigint("requests", { mode: "bigint" }).notNull(),
    /** The most requests that one who is not listed can have had; 0: all are listed. */
    rest: bigint("rest", { mode: "bigint" }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.kind, t.periodS, t.bucket, t.rank] })],
);

/** How far the minutes are folded into hours and days. One row. */
export const rollupProgress = pgTable(
  "rollup_progress",
  {
    id: integer("id").primaryKey().default(1),
    /** Hours before this are folded. Null: none is. */
    foldedUntil: instant("folded_until"),
  },
  (t) => [check("rollup_progress_one_row", sql`${t.id} = 1`)],
);

/** Hours that got more after they may have been folded: to be folded again. Written in the batch's own transaction. */
export const rollupLateHours = pgTable("rollup_late_hours", {
  id: bigint("id", { mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity(),
  hour: instant("hour").notNull(),
});

/** The console's sessions. The cookie's value is stored only as its hash. */
export const sessions = pgTable(
  "sessions",
  {
    id: uuid("id").primaryKey(),
    hash: bytea("hash").notNull(),
    userId: bigint("user_id", { mode: "bigint" })
      .notNull()
      .references(() => users.id, { onDelete: "cascade" }),
    /** The key that signed in; null: the secret key. The session ends with it. */
    apiKeyId: uuid("api_key_id").references(() => apiKeys.id, { onDelete: "cascade" }),
    createdAt: instant("created_at").notNull().defaultNow(),
    /** When it was last used, to the minute. */
    seenAt: instant("seen_at").notNull().defaultNow(),
    /** When it ends unless it is used; moves on with its use, up to `ends_at`. */
    expiresAt: instant("expires_at").notNull(),
    endsAt: instant("ends_at").notNull(),
    peerAddress: inet("peer_address"),
    userAgent: text("user_agent").notNull().default(""),
  },
  (t) => [
    // The look-up of a verdict.
    uniqueIndex("sessions_hash_key").on(t.hash),
    // Ending the sessions of a user or a key with it; one user's sessions, newest first.
    index("sessions_user_idx").on(t.userId, t.id),
    index("sessions_api_key_idx").on(t.apiKeyId),
    // Sweeping out what has expired.
    index("sessions_expires_idx").on(t.expiresAt),
  ],
);

/** Who changed which key or user. Written in the change's own transaction; holds no token and no hash. */
export const auditEvents = pgTable(
  "audit_events",
  {
    id: bigint("id", { mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity(),
    time: instant("time").notNull().defaultNow(),
    /** Null: the bootstrap command or the server itself. */
    actorUserId: bigint("actor_user_id", { mode: "bigint" }),
    actorApiKeyId: uuid("actor_api_key_id"),
    /** E.g. "api_key.create". */
    action: text("action").notNull(),
    targetUserId: bigint("target_user_id", { mode: "bigint" }),
    targetApiKeyId: uuid("target_api_key_id"),
    before: jsonb("before"),
    after: jsonb("after"),
    peerAddress: inet("peer_address"),
    requestId: text("request_id"),
  },
  (t) => [
    // What happened to one key, to one user, and what one user did; newest first.
    index("audit_events_target_api_key_idx").on(t.targetApiKeyId, t.id),
    index("audit_events_target_user_idx").on(t.targetUserId, t.id),
    index("audit_events_actor_user_idx").on(t.actorUserId, t.id),
    // What one key did, and where one thing was done.
    index("audit_events_actor_api_key_idx").on(t.actorApiKeyId, t.id),
    index("audit_events_action_idx").on(t.action, t.id),
    // A time range.
    index("audit_events_time_idx").on(t.time),
  ],
);

/**
 * The instances that serve and write usage. `last_batch` is the number of the newest batch
 * that was committed: a batch sent again after a lost answer is not counted twice.
 */
export const instances = pgTable(
  "instances",
  {
    id: uuid("id").primaryKey(),
    hostname: text("hostname").notNull(),
    pid: integer("pid").notNull(),
    version: text("version").notNull(),
    startedAt: instant("started_at").notNull(),
    seenAt: instant("seen_at").notNull(),
    /** Null: it runs, or ended without a word. */
    stoppedAt: instant("stopped_at"),
    lastBatch: bigint("last_batch", { mode: "bigint" }).notNull().default(sql`0`),
  },
  (t) => [check("instances_last_batch_check", sql`${t.lastBatch} >= 0`)],
);
