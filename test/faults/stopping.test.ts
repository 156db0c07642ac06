/** SIGTERM under load: nothing is cut and nothing is lost. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { until } from "../harness/until.ts";
import { figures } from "./figures.ts";
import { type Fleet, startFleet } from "./fleet.ts";
import { type CallResult, startLoad } from "./load.ts";
import { assertCountsAgree, assertEachOnce, rowsOf } from "./tally.ts";

/** The default of LATCHKEY_SHUTDOWN_TIMEOUT_MS. */
const shutdownTimeoutMs = 10_000;
const stops = 3;
const clients = 12;
const timeout = 300_000;

interface Protocol {
  readonly createTransport: (baseUrl: string) => Transport;
  /** How a client is told that a call was not taken. The codes that connect-node makes of it are its own. */
  readonly notTaken: RegExp;
}

const protocols: Record<string, Protocol> = {
  grpc: {
    createTransport: (baseUrl) => createGrpcTransport({ baseUrl, defaultTimeoutMs: 30_000 }),
    // A stream that comes after GOAWAY was not processed and may be sent again: RFC 9113, section 8.7.
    notTaken: /ECONNREFUSED|REFUSED_STREAM|GOAWAY/,
  },
  "Connect over HTTP/1.1": {
    createTransport: (baseUrl) =>
      createConnectTransport({ baseUrl, httpVersion: "1.1", defaultTimeoutMs: 30_000 }),
    // A connection at rest may be closed as a client takes it up: RFC 9112, section 9.5.
    notTaken: /ECONNREFUSED|ECONNRESET|EPIPE|socket hang up/,
  },
};

for (const durability of ["batched", "strict"]) {
  for (const [protocol, { createTransport, notTaken }] of Object.entries(protocols)) {
    test(`${durability}, ${protocol}: SIGTERM under load cuts no call that reached the server and loses none`, {
      timeout,
    }, async (t) => {
      const fleet = await startFleet(2, { LATCHKEY_USAGE_DURABILITY: durability });
      t.after(() => fleet.close());
      const key = await fleet.newKey();
      const urls = fleet.servers.map(({ url }) => url);
      const results: CallResult[] = [];
      const load = startLoad({
        urls,
        tokens: [key.token],
        userId: key.userId,
        clients,
        pauseMs: 1,
        createTransport,
        onResult: (result) => results.push(result),
      });
      const stopMs: number[] = [];
      let underWay = 0;
      for (let n = 0; n < stops; n++) {
        const enough = results.length + 100 + Math.random() * 100;
        await until(
          () => results.length,
          (found) => found > enough,
        );
        const victim = fleet.servers[0]!;
        const replacement = fleet.add();
        // Every other time calls are under way that cannot end before it is stopping.
        const letGo = n % 2 === 0 ? undefined : await holdCalls(fleet);
        if (letGo !== undefined) underWay += clients;
        const stoppedAt = performance.now();
        const exited = fleet.end(victim, "SIGTERM");
        if (letGo !== undefined) {
          await until(() => isClosed(victim.url), Boolean);
          await letGo();
        }
        assert.equal(await exited, 0);
        stopMs.push(performance.now() - stoppedAt);
        urls.splice(urls.indexOf(victim.url), 1);
        urls.push((await replacement).url);
      }
      await load.stop();
      await Promise.all([...fleet.servers].map((server) => fleet.end(server, "SIGTERM")));

      const rows = await rowsOf(fleet, [key]);
      const counted = await assertCountsAgree(fleet, [key]);
      assertEachOnce(rows, results);
      const answered = results.filter(({ error }) => error === undefined);
      const refused = results.filter(({ error }) => error !== undefined);
      const told = Map.groupBy(refused, ({ error }) => error!.message.replace(/[\d.:]+/g, "…"));
      t.diagnostic(`${stops} stops: ${answered.length} answered, ${counted} counted`);
      t.diagnostic(`${underWay} calls at most were held as the stop began`);
      t.diagnostic(
        `never reached a server: ${[...told].map(([message, { length }]) => `${length} ${message}`).join(", ") || "none"}`,
      );
      t.diagnostic(`from SIGTERM to the exit: ${figures(stopMs)}`);
      const logged = new Set(rows.map(({ requestId }) => requestId));
      for (const { requestId, error } of refused) {
        assert.ok(!logged.has(requestId), `a call reached the server and was cut: ${String(error)}`);
      }
      assert.equal(answered.filter(({ requestId }) => !logged.has(requestId)).length, 0);
      assert.deepEqual([counted, rows.length], [answered.length, answered.length]);
      assert.ok(rows.every(({ code }) => code === 0));
      for (const message of told.keys()) assert.match(message, notTaken);
      for (const ms of stopMs) assert.ok(ms <= shutdownTimeoutMs, `${ms} ms`);
    });
  }
}

/** Makes calls wait within their handlers; resolves when some do. Returns how to let them go on. */
async function holdCalls({ sql }: Fleet): Promise<() => Promise<void>> {
  const held = Promise.withResolvers<void>();
  const letGo = Promise.withResolvers<void>();
  const done = sql.begin(async (tx) => {
    await tx`LOCK TABLE users IN ACCESS EXCLUSIVE MODE`;
    await until(
      () => tx`SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'latchkey requests' AND wait_event_type = 'Lock'`,
      (waiting) => waiting.length > 5,
    );
    held.resolve();
    await letGo.promise;
  });
  done.catch(held.reject);
  await held.promise;
  return async () => {
    letGo.resolve();
    await done;
  };
}

/** Whether a server takes no more connections. */
async function isClosed(url: string): Promise<boolean> {
  return fetch(url).then(
    () => false,
    () => true,
  );
}
