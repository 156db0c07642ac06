/**
 * Measures how long pages of the console take, and each change of a filter, on what
 * `log-data.ts` made.
 *
 *   node test/bench/console-pages.ts [--rounds N] [--data-dir DIR]
 *
 * A page is opened by its address in a browser of its own (its files cached, as after a
 * first visit); filters are changed within the page. The time runs until nothing is
 * asked for any more and nothing on the page stands for what is still to come.
 */
import { parseArgs } from "node:util";
import type { BrowserContext, Page } from "playwright-core";
import { createServer } from "../../src/server.ts";
import { launchChromium } from "../clients/console/chromium.ts";
import { secretKey } from "../harness/server.ts";
import { defaultDataDir, fail, openBenchDatabase, readMade, say } from "./database.ts";
import { median } from "./statistics.ts";
import { figure, table } from "./table.ts";

/** Nothing has happened for so long: it is done. */
const quietMs = 250;
const pollMs = 20;
const patienceMs = 60_000;

/** What a page of the console is opened with, and how its filters are changed then: addresses, one after the other. */
interface Walk {
  readonly page: string;
  readonly changes: readonly string[];
}

function walksOf(keyId: string, userId: string): Walk[] {
  const ranges = ["15m", "1h", "6h", "24h", "7d", "30d"];
  return [
    { page: "", changes: ranges.map((range) => `?range=${range}`) },
    {
      page: "/keys",
      changes: [
        "?status=revoked",
        "?q=key 777",
        "?type=webhook",
        `?user=${userId}`,
        "?sort=requests&dir=desc",
        "?sort=lastUsed&dir=desc",
        "?sort=name&dir=asc",
        "?sort=expires&dir=asc",
        "?attention=unused30",
        "?attention=expiring30",
      ],
    },
    {
      page: `/keys/${keyId}`,
      changes: ranges.map((range) => `?range=${range}`),
    },
    {
      page: "/logs",
      changes: [
        "?errors=1",
        "?range=30d&errors=1",
        "?range=30d&reason=METHOD_NOT_ALLOWED",
        "?range=30d&min=500",
        "?range=30d&code=not_found",
        `?range=30d&user=${userId}`,
        `?range=30d&key=${keyId}`,
        "?range=30d&protocol=grpc-web",
        "?range=30d&address=10.0.0.1",
        "?range=30d&text=nowhere to be found",
      ],
    },
    { page: "/users", changes: ["?q=user 77", "?role=staff", "?status=disabled"] },
    { page: `/users/${userId}`, changes: [] },
    { page: "/audit", changes: ["?action=api_key.create", `?target=${userId}`] },
    { page: "/server", changes: [] },
  ];
}

/** Follows what a page asks for. */
class Watch {
  readonly #page: Page;
  #pending = 0;

  constructor(page: Page) {
    this.#page = page;
    page.setDefaultTimeout(patienceMs);
    page.on("request", () => this.#pending++);
    page.on("requestfinished", () => this.#pending--);
    page.on("requestfailed", () => this.#pending--);
  }

  /** Milliseconds until all is there that an action leads to. */
  async time(action: () => Promise<unknown>): Promise<number> {
    const began = performance.now();
    await action();
    let since: number | undefined;
    for (;;) {
      const now = performance.now();
      if (now - began > patienceMs) throw new Error(`${this.#page.url()} is not done`);
      if (this.#pending > 0 || (await this.#isBusy())) since = undefined;
      else since ??= now;
      if (since !== undefined && now - since >= quietMs) return since - began;
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
  }

  #isBusy(): Promise<boolean> {
    return this.#page.evaluate(`document.querySelector("[aria-busy=true], .mantine-Skeleton-root") !== null`);
  }
}

type Times = Map<string, number[]>;

function note(times: Times, name: string, ms: number): void {
  const all = times.get(name);
  if (all === undefined) times.set(name, [ms]);
  else all.push(ms);
}

async function walk(context: BrowserContext, url: string, { page: path, changes }: Walk, times: Times) {
  const page = await context.newPage();
  const watch = new Watch(page);
  const open = `${path || "/"}, opened`;
  note(times, open, await watch.time(() => page.goto(`${url}/console${path}`)));
  note(
    times,
    `${open}: first content`,
    await page.evaluate(`performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? NaN`),
  );
  for (const change of changes) {
    const address = `/console${path}${change.replaceAll(" ", "%20")}`;
    // As the browser's own buttons lead there.
    const go = () =>
      page.evaluate(
        `history.pushState({}, "", ${JSON.stringify(address)}); dispatchEvent(new PopStateEvent("popstate", { state: {} }))`,
      );
    note(times, `${path || "/"}${change}`, await watch.time(go));
  }
  await page.close();
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "3" },
      "data-dir": { type: "string", default: defaultDataDir },
    },
  });
  const bench = await openBenchDatabase(values["data-dir"], 1);
  const made = await readMade(bench.db);
  const [busiest] = await bench.client<{ id: string; userId: string }[]>`
    SELECT id, user_id AS "userId" FROM api_keys JOIN api_key_usage ON api_key_id = id
    ORDER BY request_count DESC LIMIT 1`;
  // Somebody has to see all of it.
  await bench.client`UPDATE users SET is_staff = true WHERE id = (SELECT min(id) FROM users)`;
  await bench.close();
  if (!made?.isWhole || busiest === undefined) {
    throw new Error(`${bench.description} has no data: run test/bench/log-data.ts first`);
  }
  say(`${bench.description}: ${made.rows} rows, ${made.keys} keys, ${made.days} days`);
  const server = await createServer({
    ...{ port: 0, dataDir: values["data-dir"], databaseUrl: process.env.DATABASE_URL || undefined },
    // What was made stays, however old it is by now.
    ...{ secretKey, logLevel: "error", logRetentionDays: 400 },
  });
  const { port } = await server.listen();
  const url = `http://127.0.0.1:${port}`;
  const browser = await launchChromium();
  const times: Times = new Map();
  try {
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    const page = await context.newPage();
    await page.goto(`${url}/console`);
    await page.getByLabel("API key token").fill(secretKey);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.locator("#main").waitFor();
    await page.close();
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const one of walksOf(busiest.id, busiest.userId)) await walk(context, url, one, times);
    }
  } finally {
    await browser.close();
    await server.close();
  }
  const rows = [...times].map(([name, all]) => [name, figure(median(all)), figure(Math.max(...all))]);
  say(table(["page or change", "median, ms", "most, ms"], rows));
}

await main().catch(fail);
