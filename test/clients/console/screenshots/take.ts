/**
 * Takes README's pictures of the console anew, of two days of made-up calls.
 *
 *   node test/run.ts test/clients/console/screenshots/take.ts
 */
import { join } from "node:path";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { Page } from "playwright-core";
import { database } from "../../../../src/db/client.ts";
import { keepPartitions } from "../../../../src/db/partitions.ts";
import { foldRollups } from "../../../../src/usage/fold.ts";
import { foldedUntil } from "../../../../src/usage/fold-store.ts";
import { dayMs, floorTo, minuteMs } from "../../../../src/usage/range.ts";
import { makeMinutes } from "../../../bench/made-rollups.ts";
import { countUsage, makeKeys, makeRows } from "../../../bench/made-rows.ts";
import { createTestDatabase, openSql } from "../../../harness/postgres.ts";
import { startServer } from "../../../harness/server.ts";
import { launchChromium, openPerson } from "../chromium.ts";

const days = 2;
const endMs = floorTo(minuteMs, Date.now());
const users = "ada radia grace barbara katherine joan hedy mary".split(" ");
const keys =
  "checkout,mobile app,nightly export,partner feed,search index,invoices,support desk,metrics,staging,mail".split(
    ",",
  );
const size = { rows: 20_000, keys: keys.length, users: users.length, days };
const made = { ...size, startMs: endMs - days * dayMs, endMs, isWhole: false };

const databaseUrl = await createTestDatabase("made-up");
const sql = openSql(databaseUrl);
const db = database(sql);
for (let at = made.startMs; at <= endMs; at += dayMs) {
  const now = new Date(at);
  await keepPartitions(
    db,
    { logRetentionDays: 30, statsRetentionDays: 400, foldedUntil },
    { now, earliest: now },
  );
}
await makeKeys(db, size);
// A key is found by what it has used; counted again once there are calls.
await countUsage(db, made);
await sql`
  UPDATE users SET username = name, username_key = name, email = name || '@example.com', is_staff = id = 1
  FROM unnest(${users}::text[]) WITH ORDINALITY AS named (name, n) WHERE id = n`;
await sql`
  UPDATE api_keys SET name = named.name, start = 'lk_' || substr(md5(named.name), 1, 6)
  FROM unnest(${keys}::text[]) WITH ORDINALITY AS named (name, n) WHERE api_keys.name = 'key ' || n`;
const [busiest] = await sql<
  { id: string }[]
>`UPDATE api_keys SET description = 'Deployed with the checkout service' WHERE name = 'checkout' RETURNING id`;
const oldKey = busiest?.id ?? "";

const [browser, latchkey] = await Promise.all([launchChromium(), startServer({ databaseUrl })]);
try {
  const { apiKey } = await latchkey.asStaff.keys.rotateApiKey({ id: oldKey, grace: durationFromMs(dayMs) });
  await makeRows(db, made, 0, size.rows);
  // Within six hours one client after another switches to the new key.
  await sql`
    UPDATE request_logs SET api_key_id = ${apiKey?.id ?? ""}
    WHERE api_key_id = ${oldKey} AND random() * interval '6 hours' < time - ${new Date(endMs).toISOString()}::timestamptz + interval '6 hours'`;
  await sql`DELETE FROM api_key_usage`;
  await countUsage(db, made);
  for (let day = floorTo(dayMs, made.startMs); day < endMs; day += dayMs) {
    await makeMinutes(db, day, Math.min(day + dayMs, endMs));
  }
  await foldRollups(db, { now: new Date(endMs - minuteMs) });

  for (const { name, path, colorScheme, charts } of [
    { name: "overview-light", path: "", colorScheme: "light", charts: 2 },
    { name: "key-dark", path: `/keys/${oldKey}`, colorScheme: "dark", charts: 4 },
  ] as const) {
    const person = await openPerson(browser, latchkey.url, { colorScheme, reducedMotion: "reduce" });
    await person.open(path);
    await person.signIn();
    await allLoaded(person.page, charts);
    await person.page.screenshot({ path: join(import.meta.dirname, `${name}.png`) });
    person.assertNothingOdd();
    await person.close();
  }
} finally {
  await browser.close();
  await latchkey.close();
  await sql.end();
}

/** Waits until nothing of a page is still to come: charts, rows, names for ids, letters. */
async function allLoaded(page: Page, charts: number): Promise<void> {
  await page
    .locator("canvas")
    .nth(charts - 1)
    .waitFor();
  await page.waitForLoadState("networkidle");
  await page.waitForFunction(
    `document.querySelector("[aria-busy=true], .mantine-Skeleton-root, main table a > code") === null`,
  );
  await page.evaluate("document.fonts.ready");
}
