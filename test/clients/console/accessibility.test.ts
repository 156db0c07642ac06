/** The console for those who do not see it, use no mouse, or hold a phone. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import type { AxeResults } from "axe-core";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { createUserAndKey, startServer, type TestServer } from "../../harness/server.ts";
import { launchChromium, openPerson, type Person } from "./chromium.ts";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser: Browser;
let latchkey: TestServer;
/** A user and their keys: the one that was rotated, and the one after it. */
let ids: { user: bigint; oldKey: string; newKey: string };

before(async () => {
  [browser, latchkey] = await Promise.all([launchChromium(), startServer()]);
  const key = await createUserAndKey(latchkey.asStaff, "somebody");
  const { users } = latchkey.as(key.token);
  for (let n = 0; n < 5; n++) await users.getUser({ userId: key.userId });
  await users.deleteUser({ userId: 1n }).catch(() => {});
  const gone = await latchkey.asStaff.keys.createApiKey({ userId: key.userId, name: "gone" });
  await latchkey.asStaff.keys.revokeApiKey({ id: gone.apiKey?.id ?? "" });
  const { apiKey } = await latchkey.asStaff.keys.rotateApiKey({ id: key.apiKeyId });
  ids = { user: key.userId, oldKey: key.apiKeyId, newKey: apiKey?.id ?? "" };
});
after(async () => {
  await browser?.close();
  await latchkey?.close();
});

const press = (name: string) => (page: Page) => page.getByRole("button", { name }).first().click();
const follow = (name: string | RegExp) => (page: Page) => page.getByRole("link", { name }).first().click();

const views: [what: string, path: () => string, open?: (page: Page) => Promise<void>][] = [
  ["the overview", () => "?range=15m"],
  ["the list of shortcuts", () => "", (page) => page.keyboard.press("?")],
  ["the keys", () => "/keys"],
  ["no key that matches", () => "/keys?q=nothing"],
  [
    "keys that are selected",
    () => "/keys",
    (page) =>
      page
        .getByLabel(/^Select key of/)
        .first()
        .check(),
  ],
  ["a new key", () => "/keys/new", (page) => page.getByRole("radio", { name: "Only these" }).check()],
  ["a new key without a name", () => "/keys/new", press("Create API key")],
  ["a key that was rotated", () => `/keys/${ids.oldKey}`],
  ["rotating a key", () => `/keys/${ids.newKey}`, press("Rotate")],
  ["revoking a key", () => `/keys/${ids.newKey}`, press("Revoke")],
  ["editing a key", () => `/keys/${ids.newKey}/edit`],
  ["a key that is not there", () => "/keys/none"],
  ["the request logs", () => "/logs"],
  ["a call", () => "/logs", follow(/DeleteUser/)],
  ["the filters of the logs", () => "/logs", press("More filters")],
  ["the export", () => "/logs", press("Export")],
  ["the live tail", () => "/logs?live=1"],
  ["the users", () => "/users"],
  ["a new user", () => "/users", press("Create user")],
  ["a user", () => `/users/${ids.user}`],
  ["deleting a user", () => `/users/${ids.user}`, press("Delete")],
  ["the audit log", () => "/audit"],
  ["a change", () => "/audit", follow("Key rotated")],
  ["the server", () => "/server"],
  ["no method to try", () => "/try"],
  [
    "a method to try",
    () => "/try?method=latchkey.v1.ApiKeyService/BatchVerifyApiKeys",
    press("Add to requests"),
  ],
  ["a page that is not there", () => "/nowhere"],
];

/** What axe holds against a page that is serious, and how much of it lies beside the screen. */
async function faultsOf(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const { violations } = await page.evaluate<AxeResults>(
    `axe.run(document, { resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"] })`,
  );
  const faults = violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`);
  const beside = await page.evaluate<number>("document.documentElement.scrollWidth - innerWidth");
  return beside === 0 ? faults : [...faults, `${beside} pixels wider than the screen`];
}

const screens: [name: string, BrowserContextOptions][] = [
  ["light, on a desktop", { colorScheme: "light" }],
  ["dark, on a phone", { colorScheme: "dark", viewport: { width: 390, height: 844 }, hasTouch: true }],
];

for (const [screen, options] of screens) {
  describe(`axe finds nothing serious, and all fits the screen: ${screen}`, () => {
    let person: Person;
    before(async () => {
      person = await openPerson(browser, latchkey.url, { ...options, reducedMotion: "reduce" });
    });
    after(() => person?.close());

    test("signing in", async () => {
      await person.open("");
      await person.page.getByLabel("API key token").waitFor();
      assert.deepEqual(await faultsOf(person.page), []);
      await person.signIn();
    });
    for (const [what, path, open] of views) {
      test(what, async () => {
        const { page } = person;
        await person.open(path());
        await page.getByRole("heading", { level: 1 }).waitFor();
        await page.locator("[aria-busy=true]").first().waitFor({ state: "detached" });
        await open?.(page);
        await page.evaluate(
          "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))",
        );
        assert.deepEqual(await faultsOf(page), []);
        person.assertNothingOdd();
      });
    }
  });
}

test("a dialog takes the focus, keeps it, and gives it back", async () => {
  const person = await openPerson(browser, latchkey.url);
  const { page } = person;
  try {
    await person.open("/users");
    await person.signIn();
    const button = page.getByRole("button", { name: "Create user" });
    await button.focus();
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    for (let n = 0; n < 12; n++) {
      await page.keyboard.press("Tab");
      assert.ok(await page.evaluate(`document.activeElement.closest("[role=dialog]") !== null`));
    }
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    await page.waitForFunction(`document.activeElement.textContent === "Create user"`);
    person.assertNothingOdd();
  } finally {
    await person.close();
  }
});
