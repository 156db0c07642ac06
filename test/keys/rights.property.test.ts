/** Whatever is done over RPC, in whatever order: no key gains a right that neither it nor its maker had. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Timestamp, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { type ApiKey, ApiKeyStatus } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import { type Clients, createUserAndKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

const dayMs = 86_400_000;

/** What rights are made of: every combination of these is one. */
const methods = [
  ["api.users.UserService/UpdateProfile", "user"],
  ["api.users.UserService/DeleteUser", "staff"],
  ["latchkey.v1.ApiKeyService/CreateApiKey", "user"],
  ["latchkey.v1.ApiKeyService/VerifyApiKey", "verifier"],
  ["latchkey.v1.UserAdminService/UpdateUser", "staff"],
] as const;
const addresses = ["127.0.0.1", "10.1.2.3", "2001:db8::1"] as const;
const daysAhead = [0, 15, 45, 1000] as const;

const patternLists = [
  [],
  ["*"],
  ["api.users.*"],
  ["latchkey.v1.*"],
  ["latchkey.*", "api.*"],
  ["latchkey.v1.ApiKeyService/*"],
  ["latchkey.v1.ApiKeyService/CreateApiKey", "api.users.UserService/UpdateProfile"],
  ["latchkey.v1.ApiKeyService/UpdateApiKey", "latchkey.v1.ApiKeyService/RotateApiKey"],
] as const;
const rangeLists = [
  [],
  ["127.0.0.0/8"],
  ["127.0.0.1/32", "10.0.0.0/8"],
  ["0.0.0.0/0"],
  ["::/0", "0.0.0.0/0"],
] as const;
const expiries = [null, 10, 30, 60] as const;

let latchkey: TestServer;
let users: { staff: boolean; id: bigint }[];
before(async () => {
  latchkey = await startServer();
});
after(() => latchkey.close());

/** A key that the test holds the token of. */
interface Held {
  id: string;
  token: string;
}

const read = async (id: string): Promise<ApiKey> => {
  const { apiKey } = await latchkey.asStaff.keys.getApiKey({ id });
  assert.ok(apiKey);
  return apiKey;
};

const at = (time: Timestamp | undefined) =>
  time === undefined ? Number.POSITIVE_INFINITY : timestampDate(time).getTime();

/** The rights of a key: worked out from its record alone, in the plainest way. */
function rightsOf(key: ApiKey, now: number): Set<string> {
  const rights = new Set<string>();
  if (key.status === ApiKeyStatus.REVOKED) return rights;
  const staff = users.find(({ id }) => id === key.userId)?.staff ?? false;
  for (const [method, level] of methods) {
    const may = level === "user" || staff || (level === "verifier" && key.canVerify);
    const named =
      key.allowedMethods.length === 0 || key.allowedMethods.some((pattern) => isNamed(method, pattern));
    if (!may || !named) continue;
    for (const address of addresses) {
      if (key.allowedAddresses.length > 0 && !key.allowedAddresses.some((range) => isIn(address, range)))
        continue;
      for (const days of daysAhead) {
        if (at(key.expiresAt) > now + days * dayMs) rights.add(`${method} from ${address} in ${days} days`);
      }
    }
  }
  return rights;
}

const isNamed = (method: string, pattern: string) =>
  new RegExp(`^${pattern.replaceAll(".", "\\.").replace("*", ".*")}$`).test(method);

/** For the ranges above, which are as wide as the dots and colons in them say. */
function isIn(address: string, range: string): boolean {
  if (range === "::/0") return address.includes(":");
  if (address.includes(":")) return false;
  if (range === "0.0.0.0/0") return true;
  if (range === "127.0.0.1/32") return address === "127.0.0.1";
  return address.startsWith(`${range.split(".")[0]}.`);
}

/** What the maker of a change could do itself; undefined: everything. */
async function rightsOfMaker(maker: Held | undefined, now: number): Promise<Set<string> | undefined> {
  return maker && rightsOf(await read(maker.id), now);
}

const scope = fc.record({
  allowedMethods: fc.constantFrom(...patternLists).map((list) => [...list]),
  allowedAddresses: fc.constantFrom(...rangeLists).map((list) => [...list]),
  expiresInDays: fc.constantFrom(...expiries),
  canVerify: fc.boolean(),
});
const who = fc.nat({ max: 1000 });
const operation = fc.oneof(
  fc.record({ do: fc.constant("create" as const), maker: who, user: who, scope }),
  fc.record({
    do: fc.constant("update" as const),
    maker: who,
    target: who,
    scope,
    paths: fc.subarray(["allowed_methods", "allowed_addresses", "expires_at", "can_verify"], {
      minLength: 1,
    }),
  }),
  fc.record({
    do: fc.constant("rotate" as const),
    maker: who,
    target: who,
    graceDays: fc.constantFrom(0, 1, 20),
  }),
  fc.record({ do: fc.constant("revoke" as const), maker: who, target: who }),
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

const expiry = (days: number | null) =>
  days === null ? {} : { expiresAt: timestampFromDate(new Date(Date.now() + days * dayMs)) };

let changes = 0;
let refusals = 0;

/** Does one thing as one of those who hold a key; asserts what it may have changed. */
async function apply(op: Operation, held: Held[]): Promise<void> {
  const maker = held[op.maker % held.length] as Held;
  const client: Clients = latchkey.as(maker.token);
  const now = Date.now() + 60_000;
  const before = await rightsOfMaker(maker, now);
  const assertWithin = (rights: Set<string>, own: Set<string>) => {
    for (const right of rights) {
      assert.ok(own.has(right) || before?.has(right), `${JSON.stringify(op)} gained: ${right}`);
    }
  };
  const none = new Set<string>();
  switch (op.do) {
    case "create": {
      const { expiresInDays, ...grants } = op.scope;
      const userId = users[op.user % users.length]?.id ?? 0n;
      const { apiKey, token } = await client.keys.createApiKey({
        userId,
        name: "made",
        ...grants,
        ...expiry(expiresInDays),
      });
      assert.ok(apiKey);
      held.push({ id: apiKey.id, token: noteSecret(token) });
      return assertWithin(rightsOf(await read(apiKey.id), now), none);
    }
    case "update": {
      const target = held[op.target % held.length] as Held;
      const own = rightsOf(await read(target.id), now);
      const { expiresInDays, ...grants } = op.scope;
      await client.keys.updateApiKey({
        apiKey: { id: target.id, ...grants, ...expiry(expiresInDays) },
        updateMask: { paths: op.paths },
      });
      return assertWithin(rightsOf(await read(target.id), now), own);
    }
    case "rotate": {
      const target = held[op.target % held.length] as Held;
      const isOwn = target.id === maker.id;
      const own = isOwn ? rightsOf(await read(target.id), now) : none;
      const { apiKey, token } = await client.keys.rotateApiKey({
        id: target.id,
        grace: { seconds: BigInt(op.graceDays * 86_400), nanos: 0 },
      });
      assert.ok(apiKey);
      held.push({ id: apiKey.id, token: noteSecret(token) });
      return assertWithin(rightsOf(await read(apiKey.id), now), own);
    }
    case "revoke": {
      const target = held[op.target % held.length] as Held;
      await client.keys.revokeApiKey({ id: target.id });
      assert.equal(rightsOf(await read(target.id), now).size, 0);
    }
  }
}

test("whatever is created, updated, rotated and revoked, and by whom: rights are only passed on, and verdicts say what the records say", async () => {
  const { asStaff } = latchkey;
  await fc.assert(
    fc.asyncProperty(
      fc.uuid(),
      fc.array(operation, { minLength: 15, maxLength: 40 }),
      async (name, operations) => {
        const ada = await createUserAndKey(asStaff, `ada-${name}`);
        const sue = await createUserAndKey(asStaff, `sue-${name}`);
        await asStaff.admin.updateUser({
          user: { id: sue.userId, isStaff: true },
          updateMask: { paths: ["is_staff"] },
        });
        users = [
          { id: ada.userId, staff: false },
          { id: sue.userId, staff: true },
        ];
        const held: Held[] = [
          { id: ada.apiKeyId, token: ada.token },
          { id: sue.apiKeyId, token: sue.token },
        ];
        // Keys that are limited from the start, of the user and of the staff user.
        for (const userId of [ada.userId, sue.userId]) {
          for (const limits of [
            { allowedMethods: ["latchkey.v1.ApiKeyService/*"], ...expiry(40) },
            { allowedMethods: ["latchkey.*"], allowedAddresses: ["127.0.0.0/8"] },
          ]) {
            const { apiKey, token } = await asStaff.keys.createApiKey({ userId, name: "limited", ...limits });
            held.push({ id: apiKey?.id ?? "", token: noteSecret(token) });
          }
        }
        for (const op of operations) {
          try {
            await apply(op, held);
            changes++;
          } catch (error) {
            if (!(error instanceof ConnectError)) throw error;
            assert.ok(
              [
                Code.PermissionDenied,
                Code.Unauthenticated,
                Code.NotFound,
                Code.FailedPrecondition,
                Code.InvalidArgument,
              ].includes(error.code),
              `${JSON.stringify(op)}: ${error.message}`,
            );
            refusals++;
          }
        }
        await assertVerdicts(held);
      },
    ),
    { numRuns: 12 },
  );
  assert.ok(changes > 50 && refusals > 50, `${changes} changes, ${refusals} refusals: too few of one`);
});

/** The verdict, from the cache, of every key, method and address is what the record says. */
async function assertVerdicts(held: readonly Held[]): Promise<void> {
  for (const { id, token } of held) {
    const key = await read(id);
    const expected = rightsOf(key, Date.now());
    const questions = methods.flatMap(([method]) =>
      addresses.map((address) => ({ token, method, address, skipUsage: true })),
    );
    const ask = async () => {
      const { verdicts } = await latchkey.asStaff.keys.batchVerifyApiKeys({ requests: questions });
      // A method that needs a verifier is, to the verdict, any user's: its handler asks the rest.
      return questions
        .filter(
          ({ method }, i) => verdicts[i]?.allowed && (!method.endsWith("/VerifyApiKey") || mayVerify(key)),
        )
        .map(({ method, address }) => `${method} from ${address} in 0 days`)
        .sort();
    };
    const wanted = [...expected].filter((right) => right.endsWith(" in 0 days")).sort();
    const found = await until(ask, (allowed) => JSON.stringify(allowed) === JSON.stringify(wanted));
    assert.deepEqual(found, wanted);
  }
}

const mayVerify = (key: ApiKey) =>
  key.canVerify || (users.find(({ id }) => id === key.userId)?.staff ?? false);
