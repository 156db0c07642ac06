/** ListAuditEvents: what each filter finds, how it is paged, and that no page is looked for in the whole log. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import type { ListAuditEventsRequestSchema } from "../../src/gen/latchkey/v1/audit_log_service_pb.js";
import { type AuditFilter, auditActions, createAuditStore } from "../../src/logs/audit-store.ts";
import { costsOf } from "../harness/plan.ts";
import { openSql } from "../harness/postgres.ts";
import { startServer, type TestServer } from "../harness/server.ts";

type Listing = MessageInitShape<typeof ListAuditEventsRequestSchema>;

const count = 30_000;
const startMs = Date.UTC(2026, 0, 2, 3, 4, 5);
/** The times of the events: two and two the same, a second apart, and finer than a Date. */
const timeOf = (n: number) => startMs + Math.floor(n / 2) * 1000;
const keyOf = (n: number) => `00000000-0000-7000-8000-${String(n).padStart(12, "0")}`;

let latchkey: TestServer;
before(async () => {
  latchkey = await startServer();
  await latchkey.sql`DELETE FROM audit_events`;
  // Every thousandth event deletes a user; of the others, the older two thirds create keys. The actor 7 and its
  // key made the first hundred only; each target has three.
  await latchkey.sql`
    INSERT INTO audit_events (time, actor_user_id, actor_api_key_id, action, target_user_id, target_api_key_id, after)
    SELECT ${new Date(startMs).toISOString()}::timestamptz + (n / 2) * interval '1 second' + interval '7 microseconds',
      CASE WHEN n < 100 THEN 7 ELSE 1 END,
      CASE WHEN n < 100 THEN ${keyOf(7)} ELSE ${keyOf(1)} END::uuid,
      CASE WHEN n % 1000 = 0 THEN 'user.delete' WHEN n < 20000 THEN 'api_key.create' ELSE 'api_key.revoke' END,
      1000 + n / 3, ('00000000-0000-7000-8000-' || lpad((n / 3)::text, 12, '0'))::uuid, jsonb_build_object('n', n)
    FROM generate_series(0, ${count - 1}::int) n`;
  await latchkey.sql`ANALYZE audit_events`;
});
after(() => latchkey?.close());

/** The numbers of all events that a request finds, page by page. */
async function walk(request: Listing, pageSize = 500): Promise<number[]> {
  const found: number[] = [];
  let pageToken = "";
  do {
    const page = await latchkey.asStaff.audit.listAuditEvents({ ...request, pageSize, pageToken });
    assert.ok(page.auditEvents.length <= pageSize && (page.auditEvents.length > 0 || pageToken === ""));
    found.push(...page.auditEvents.map(({ after }) => Number(after?.n)));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return found;
}

const at = (ms: number, nanos = 0) => {
  const time = timestampFromMs(ms);
  return { seconds: time.seconds, nanos: time.nanos + nanos };
};

const filters: [string, Listing, (n: number) => boolean][] = [
  ["an actor", { actorUserId: 7n }, (n) => n < 100],
  ["an actor's key", { actorApiKeyId: keyOf(7) }, (n) => n < 100],
  ["a target", { targetUserId: 1500n }, (n) => Math.floor(n / 3) === 500],
  ["a target key", { targetApiKeyId: keyOf(500) }, (n) => Math.floor(n / 3) === 500],
  ["an action", { action: "user.delete" }, (n) => n % 1000 === 0],
  ["an actor and an action", { actorUserId: 7n, action: "api_key.create" }, (n) => n < 100 && n > 0],
  ["an actor and a target", { actorUserId: 7n, targetUserId: 1500n }, () => false],
  ["an actor and a range", { actorUserId: 7n, endTime: at(timeOf(10)) }, (n) => n < 10],
  ["a start", { startTime: at(timeOf(count - 10)) }, (n) => n >= count - 10],
  ["an end", { endTime: at(timeOf(10)) }, (n) => n < 10],
  ["a range", { startTime: at(timeOf(400)), endTime: at(timeOf(600)) }, (n) => n >= 400 && n < 600],
  ["a range without end", { startTime: at(timeOf(600)), endTime: at(timeOf(600)) }, () => false],
  ["a start between two", { startTime: at(timeOf(count - 10), 1_000_000) }, (n) => n >= count - 8],
  ["a start finer than what is shown", { startTime: at(timeOf(count - 10), 1) }, (n) => n >= count - 8],
  ["nobody", { actorUserId: 2n ** 63n - 1n }, () => false],
];

for (const [what, request, matches] of filters) {
  test(`${what} finds its events and no other, newest first`, async () => {
    const expected = Array.from({ length: count }, (_, n) => n)
      .filter(matches)
      .reverse();
    assert.deepEqual(await walk(request), expected);
    // Events of one time are neither lost nor told twice where a page ends between them.
    if (expected.length <= 200)
      for (const size of [1, 7]) assert.deepEqual(await walk(request, size), expected);
  });
}

test("without filters all events come, newest first; a page holds 50 unless asked, and never more than 500", async () => {
  assert.deepEqual(
    await walk({}),
    Array.from({ length: count }, (_, i) => count - 1 - i),
  );
  for (const [pageSize, length] of [
    [0, 50],
    [500, 500],
    [501, 500],
    [2 ** 31 - 1, 500],
  ] as const) {
    const page = await latchkey.asStaff.audit.listAuditEvents({ pageSize });
    assert.equal(page.auditEvents.length, length);
  }
});

test("what comes in while pages are read moves none of them", async () => {
  const { audit } = latchkey.asStaff;
  const first = await audit.listAuditEvents({ actorUserId: 1n, pageSize: 10 });
  const { user } = await latchkey.asStaff.admin.createUser({ username: "meanwhile" });
  const second = await audit.listAuditEvents({
    actorUserId: 1n,
    pageSize: 10,
    pageToken: first.nextPageToken,
  });
  assert.deepEqual(
    [...first.auditEvents, ...second.auditEvents].map(({ after }) => after?.n),
    Array.from({ length: 20 }, (_, i) => count - 1 - i),
  );
  await latchkey.sql`DELETE FROM audit_events WHERE target_user_id = ${String(user!.id)}`;
});

for (const action of auditActions) {
  test(`the action ${action} can be asked for`, async () => {
    await latchkey.asStaff.audit.listAuditEvents({ action });
  });
}

test("what is no filter is refused, and so is a page token of another listing", async () => {
  const { audit, admin } = latchkey.asStaff;
  const { nextPageToken } = await audit.listAuditEvents({ pageSize: 1 });
  const [filters, id] = JSON.parse(Buffer.from(nextPageToken, "base64url").toString());
  const crafted = (...parts: unknown[]) => Buffer.from(JSON.stringify(parts)).toString("base64url");
  assert.equal(crafted(filters, id), nextPageToken);
  const ofUsers = await admin.listUsers({ pageSize: 1 });
  for (const [message, request] of [
    [/^actor_user_id must/, { actorUserId: -1n }],
    [/^target_user_id must/, { targetUserId: -1n }],
    [/^actor_api_key_id must be a UUID/, { actorApiKeyId: "1" }],
    [/^target_api_key_id must be a UUID/, { targetApiKeyId: "\0" }],
    [/^action "user.rename" is unknown: one of api_key.create, api_key.delete,/, { action: "user.rename" }],
    [/^action "user.%" is unknown/, { action: "user.%" }],
    [/^start_time must/, { startTime: { seconds: 253_402_300_800n, nanos: 0 } }],
    [/^end_time must/, { endTime: { seconds: 0n, nanos: -1 } }],
    [/^end_time must not be before start_time/, { startTime: at(startMs), endTime: at(startMs - 1) }],
    [/^page_size must not be negative/, { pageSize: -1 }],
    [/^page_token is not one/, { pageToken: "garbage" }],
    [/^page_token is not one/, { action: "user.create", pageToken: nextPageToken }],
    [/^page_token is not one/, { actorUserId: 1n, pageToken: nextPageToken }],
    [/^page_token is not one/, { startTime: at(startMs), pageToken: nextPageToken }],
    [/^page_token is not one/, { pageToken: ofUsers.nextPageToken }],
    [/^page_token is damaged/, { pageToken: crafted(filters, "0") }],
    [/^page_token is damaged/, { pageToken: crafted(filters, "1; DROP TABLE users") }],
    [/^page_token is damaged/, { pageToken: crafted(filters, String(2n ** 63n)) }],
  ] as const) {
    await assert.rejects(audit.listAuditEvents(request), { code: Code.InvalidArgument, rawMessage: message });
  }
});

test("a page, the first or a deep one, reads about as many rows as it shows", async () => {
  const sql = openSql(latchkey.databaseUrl);
  const early = { from: new Date(startMs), until: new Date(timeOf(2000)) };
  try {
    for (const [filter, bound] of [
      [{}, 51],
      [{ actorUserId: 7n }, 51],
      [{ actorUserId: 1n }, 51],
      [{ actorApiKeyId: keyOf(7) }, 51],
      [{ actorApiKeyId: keyOf(1) }, 51],
      [{ targetUserId: 1500n }, 3],
      [{ targetApiKeyId: keyOf(500) }, 3],
      [{ action: "user.delete" }, 51],
      [{ action: "user.update" }, 0],
      [{ action: "api_key.revoke" }, 51],
      [{ action: "api_key.create" }, 51],
      // Of several names, those of the rarest one are looked through.
      [{ actorUserId: 7n, targetUserId: 1500n }, 3],
      [{ actorUserId: 7n, actorApiKeyId: keyOf(7) }, 100],
      [{ actorUserId: 7n, action: "api_key.create" }, 100],
      [{ actorUserId: 1n, action: "user.delete" }, 51],
      // More than the page: those of the time at which it ends, and where the page before ended.
      [early, 60],
      [{ until: early.until }, 60],
      [{ from: early.from }, 60],
      [{ ...early, targetUserId: 1500n }, 3],
    ] as [AuditFilter, number][]) {
      for (const beforeId of [undefined, 1500n]) {
        const [cost] = await costsOf(sql, (db) => createAuditStore(db).list(filter, 51, beforeId));
        assert.ok(cost);
        const read = cost.rows;
        const shown = JSON.stringify({ filter, beforeId, read }, (_, value) =>
          typeof value === "bigint" ? String(value) : value,
        );
        assert.ok(read <= bound, `${shown}\n${JSON.stringify(cost.scans)}`);
      }
    }
  } finally {
    await sql.end();
  }
});
