/** The console for those who do not see it, use no mouse, or hold a phone. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import type { AxeResults } from "axe-core";
import type { Browser, Page } from "playwright-core";
import { createUserAndKey, startServer, type TestServer } from "../../harness/server.ts";
import { launchChromium, openPerson } from "./chromium.ts";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser: Browser;
let latchkey: TestServer;
let paths: [path: string, open?: (page: Page) => Promise<void>][];

before(async () => {
  [browser, latchkey] = await Promise.all([launchChromium(), startServer()]);
  const key = await createUserAndKey(latchkey.asStaff, "somebody");
  const { users } = latchkey.as(key.token);
  for (let n = 0; n < 5; n++) await users.getUser({ userId: key.userId });
  await users.deleteUser({ userId: 1n }).catch(() => {});
  const gone = await latchkey.asStaff.keys.createApiKey({ userId: key.userId, name: "gone" });
  await latchkey.asStaff.keys.revokeApiKey({ id: gone.apiKey?.id ?? "" });
  const { apiKey } = await latchkey.asStaff.keys.rotateApiKey({ id: key.apiKeyId });
  const press = (name: string | RegExp) => (page: Page) => page.getByRole("button", { name }).first().click();
  paths = [
    ["?range=15m"],
    ["/keys"],
    ["/keys?q=nothing"],
    [
      "/keys",
      (page) =>
        page
          .getByRole("checkbox", { name: /^Select key of/ })
          .first()
          .check(),
    ],
    ["/keys/new", (page) => page.getByRole("radio", { name: "Only these" }).check()],
    ["/keys/new", press("Create API key")],
    [`/keys/${key.apiKeyId}`],
    [`/keys/${apiKey?.id}`, press("Rotate")],
    [`/keys/${apiKey?.id}`, press("Revoke")],
    [`/keys/${apiKey?.id}/edit`],
    ["/keys/none"],
    ["/logs"],
    ["/logs", (page) => page.getByRole("link", { name: /DeleteUser/ }).click()],
    ["/logs", press("More filters")],
    ["/logs", press("Export")],
    ["/logs?live=1"],
    ["/users"],
    ["/users", press("Create user")],
    [`/users/${key.userId}`],
    [`/users/${key.userId}`, press("Delete")],
    ["/audit"],
    ["/audit", (page) => page.getByRole("link", { name: "Key rotated" }).click()],
    ["/server"],
    ["/try"],
    ["/try?method=latchkey.v1.ApiKeyService/BatchVerifyApiKeys", press("Add to requests")],
    ["/nowhere"],
    ["", (page) => page.keyboard.press("?")],
  ];
});
after(async () => {
  await browser?.close();
  await latchkey?.close();
});

const screens = [
  { name: "light, desktop", options: { colorScheme: "light" } },
  {
    name: "dark, phone",
    options: { colorScheme: "dark", viewport: { width: 390, height: 844 }, hasTouch: true },
  },
] as const;

for (const { name, options } of screens) {
  test(`axe finds nothing serious on any page, and none is wider than the screen: ${name}`, async () => {
    const person = await openPerson(browser, latchkey.url, { ...options, reducedMotion: "reduce" });
    const { page } = person;
    const found: string[] = [];
    const check = async (where: string) => {
      await page.evaluate(axe);
      const { violations } = await page.evaluate<AxeResults>(
        `axe.run(document, { resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"] })`,
      );
      for (const { id, impact, nodes } of violations) {
        if (impact !== "serious" && impact !== "critical") continue;
        found.push(`${where}: ${impact} ${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`);
      }
      const wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
      if (wide !== 0) found.push(`${where}: ${wide} pixels wider than the screen`);
    };
    try {
      await person.open("");
      await page.getByLabel("API key token").waitFor();
      await check("sign in");
      await person.signIn();
      for (const [path, open] of paths) {
        await person.open(path);
        await page.getByRole("heading", { level: 1 }).waitFor();
        await page.locator("[aria-busy=true]").first().waitFor({ state: "detached" });
        await open?.(page);
        await page.evaluate(
          "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))",
        );
        await check(`${path}${open === undefined ? "" : " opened"}`);
      }
      assert.deepEqual(found, []);
      person.assertNothingOdd();
    } finally {
      await person.close();
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
