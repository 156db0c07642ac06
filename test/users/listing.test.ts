/** ListUsers of UserAdminService: what each filter finds and how it is paged. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { ListUsersRequestSchema } from "../../src/gen/latchkey/v1/user_admin_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import { startServer, type TestServer } from "../harness/server.ts";

type Listing = MessageInitShape<typeof ListUsersRequestSchema>;

let latchkey: TestServer;
before(async () => {
  latchkey = await startServer();
  // Beside the seeded admin (1, staff) and example (2).
  for (const [username, email, isStaff, isActive] of [
    ["Zoë", "zoe@example.org", false, true],
    ["under_score", "", false, true],
    ["underXscore", "50%@example.org", true, true],
    ["gone", "back\\slash@example.org", true, false],
    ["off", "OFF@Example.ORG", false, false],
  ] as const) {
    const { user } = await latchkey.asStaff.admin.createUser({ username, email, isStaff });
    await latchkey.sql`UPDATE users SET is_active = ${isActive} WHERE id = ${String(user?.id)}`;
  }
});
after(() => latchkey?.close());

const list = async (request: Listing) => (await latchkey.asStaff.admin.listUsers(request)).users;

for (const [filter, expected] of [
  [{}, ["admin", "example", "Zoë", "under_score", "underXscore", "gone", "off"]],
  [{ isStaff: true }, ["admin", "underXscore", "gone"]],
  [{ isStaff: false }, ["example", "Zoë", "under_score", "off"]],
  [{ isActive: true }, ["admin", "example", "Zoë", "under_score", "underXscore"]],
  [{ isActive: false }, ["gone", "off"]],
  [{ isStaff: true, isActive: true }, ["admin", "underXscore"]],
  [{ isStaff: false, isActive: false }, ["off"]],
  [{ search: "score" }, ["under_score", "underXscore"]],
  [{ search: "SCORE", isStaff: true }, ["underXscore"]],
  [{ search: "ZOË" }, ["Zoë"]],
  [{ search: "zoe@" }, ["Zoë"]],
  [{ search: "example.ORG" }, ["Zoë", "underXscore", "gone", "off"]],
  // Nothing in it is a pattern.
  [{ search: "_" }, ["under_score"]],
  [{ search: "r_s" }, ["under_score"]],
  [{ search: "%" }, ["underXscore"]],
  [{ search: "\\" }, ["gone"]],
  [{ search: "nobody" }, []],
  [{ search: "' OR 1=1 --" }, []],
  [{ search: "s".repeat(200) }, []],
] as const) {
  test(`ListUsers with ${JSON.stringify(filter).slice(0, 60)} finds its users, by their ids`, async () => {
    const found = await list(filter);
    assert.deepEqual(
      found.map(({ username }) => username),
      expected,
    );
    assert.deepEqual(
      found.map(({ id }) => id),
      found.map(({ id }) => id).sort((a, b) => Number(a - b)),
    );
  });
}

test("pages of every size hold each user once; a page holds 50 unless asked, and never more than 500", async () => {
  await latchkey.sql`
    INSERT INTO users (username, username_key) SELECT 'paged' || n, 'paged' || n FROM generate_series(1, 501) n`;
  const [rest] =
    await latchkey.sql`SELECT array_agg(username ORDER BY id) AS names FROM users WHERE username LIKE 'paged%'`;
  const { admin } = latchkey.asStaff;
  for (const pageSize of [1, 7, 250, 500]) {
    const walked: string[] = [];
    let pageToken = "";
    do {
      const page = await admin.listUsers({
        search: pageSize === 1 ? "paged5" : "paged",
        pageSize,
        pageToken,
      });
      assert.ok(page.users.length > 0 && page.users.length <= pageSize);
      walked.push(...page.users.map(({ username }) => username));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    const expected = rest?.names.filter((name: string) => pageSize > 1 || name.startsWith("paged5"));
    assert.deepEqual(walked, expected, `pages of ${pageSize}`);
  }
  for (const [pageSize, length] of [
    [0, 50],
    [500, 500],
    [501, 500],
    [2 ** 31 - 1, 500],
  ] as const) {
    const page = await admin.listUsers({ pageSize });
    assert.equal(page.users.length, length);
    assert.notEqual(page.nextPageToken, "");
  }
});

test("a negative page size, too long a search and a page token of another listing are refused", async () => {
  const { admin, keys } = latchkey.asStaff;
  const { nextPageToken } = await admin.listUsers({ pageSize: 1 });
  const [filters, id] = JSON.parse(Buffer.from(nextPageToken, "base64url").toString());
  const crafted = (...parts: unknown[]) => Buffer.from(JSON.stringify(parts)).toString("base64url");
  assert.equal(crafted(filters, id), nextPageToken);
  for (const name of ["one", "two"]) noteSecret((await keys.createApiKey({ userId: 1n, name })).token);
  const ofKeys = await keys.listApiKeys({ pageSize: 1 });
  assert.notEqual(ofKeys.nextPageToken, "");
  for (const [message, request] of [
    [/^page_size must not be negative/, { pageSize: -1 }],
    [/^search must have at most 200 characters/, { search: "s".repeat(201) }],
    [/^search must not contain/, { search: "a\0" }],
    [/^page_token is not one/, { search: "a", pageToken: nextPageToken }],
    [/^page_token is not one/, { isStaff: false, pageToken: nextPageToken }],
    [/^page_token is not one/, { isActive: true, pageToken: nextPageToken }],
    [/^page_token is not one/, { pageToken: ofKeys.nextPageToken }],
    [/^page_token is not one/, { pageToken: crafted(filters) }],
    [/^page_token is damaged/, { pageToken: crafted(filters, "-1") }],
    [/^page_token is damaged/, { pageToken: crafted(filters, "1 OR 1=1") }],
    [/^page_token is damaged/, { pageToken: crafted(filters, String(2n ** 63n)) }],
  ] as const) {
    await assert.rejects(admin.listUsers(request), { code: Code.InvalidArgument, rawMessage: message });
  }
});
