/** Rotation while the key is in use, on two instances of one database. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { createKeyWorld, type KeyWorld, made } from "./world.ts";

let world: KeyWorld;
let other: TestServer;
before(async () => {
  world = await createKeyWorld();
  other = await startServer({ databaseUrl: world.latchkey.databaseUrl });
});
after(async () => {
  await other.close();
  await world.close();
});

const clientCount = 6;

test("clients that switch one by one from a key that is rotated fail no call, and both counts add up", async () => {
  const old = await world.newKey();
  const { userId } = old.key;
  const calls = new Map<string, number>();
  /** The token of each client's newest call. */
  const used: string[] = [];
  const failures: string[] = [];
  let running = true;
  let total = 0;

  /** One client of each instance in turn, calling without a pause with the token that it has at the time. */
  async function runClient(n: number, token: () => string): Promise<void> {
    const server = n % 2 === 0 ? world.latchkey : other;
    while (running) {
      const mine = token();
      used[n] = mine;
      calls.set(mine, (calls.get(mine) ?? 0) + 1);
      try {
        await server.as(mine).users.getUser({ userId });
      } catch (error) {
        failures.push(`client ${n}: ${ConnectError.from(error).message}`);
      }
      total++;
    }
  }

  const tokens = Array<string>(clientCount).fill(old.token);
  const clients = tokens.map((_, n) => runClient(n, () => tokens[n] ?? ""));
  const goOn = async (more: number) => {
    const target = total + more;
    await until(
      () => total,
      (n) => n >= target || failures.length > 0,
    );
  };
  let successor: ReturnType<typeof made>;
  try {
    await goOn(60);
    successor = made(
      other,
      await other.asStaff.keys.rotateApiKey({ id: old.id, grace: { seconds: 3600n, nanos: 0 } }),
    );
    for (const n of tokens.keys()) {
      await goOn(30);
      tokens[n] = successor.token;
    }
    const { token } = successor;
    await until(
      () => used,
      (found) => found.every((each) => each === token),
    );
    await goOn(60);
    // Nobody uses the old one any more: it can be ended early.
    await world.staff.keys.revokeApiKey({ id: old.id });
    await goOn(60);
  } finally {
    running = false;
    await Promise.all(clients);
  }

  assert.deepEqual(failures, []);
  const [ofOld, ofNew] = [calls.get(old.token) ?? 0, calls.get(successor.token) ?? 0];
  assert.ok(ofOld > 100 && ofNew > 100, `${ofOld} with the old, ${ofNew} with the new`);
  assert.equal(ofOld + ofNew, total);
  const counted = () =>
    world.sql<{ id: string; count: number; logged: number; ok: number }[]>`
      SELECT api_key_id AS id, request_count::int AS count,
        (SELECT count(*)::int FROM request_logs l WHERE l.api_key_id = u.api_key_id) AS logged,
        (SELECT count(*)::int FROM request_logs l WHERE l.api_key_id = u.api_key_id AND code = 0) AS ok
      FROM api_key_usage u WHERE api_key_id IN (${old.id}, ${successor.id}) ORDER BY api_key_id`;
  const rows = await until(counted, (found) => found.reduce((sum, { count }) => sum + count, 0) >= total);
  assert.deepEqual(
    rows.map((row) => ({ ...row })),
    [
      { id: old.id, count: ofOld, logged: ofOld, ok: ofOld },
      { id: successor.id, count: ofNew, logged: ofNew, ok: ofNew },
    ],
  );
});
