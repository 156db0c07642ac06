/** The request log in the console: filtered, followed, opened, saved. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { createUserAndKey } from "../../harness/server.ts";
import { until } from "../../harness/until.ts";
import { latchkey, openConsole, person } from "./chromium.ts";

let key: Awaited<ReturnType<typeof createUserAndKey>>;

openConsole("", async () => {
  key = await createUserAndKey(latchkey.asStaff, "caller");
  const { users } = latchkey.as(key.token);
  for (let n = 0; n < 3; n++) await users.getUser({ userId: key.userId });
  await users.getUser({ userId: 999_999n }).catch(() => {});
  await users.deleteUser({ userId: 1n }).catch(() => {});
  await until(
    () => latchkey.asStaff.logs.listRequestLogs({ filter: { apiKeyId: key.apiKeyId } }),
    ({ requestLogs }) => requestLogs.length === 5,
  );
});

const rows = () => person.page.getByRole("table", { name: "Request logs" }).locator("tbody tr");
const shows = (count: number) =>
  until(
    () => rows().count(),
    (found) => found === count,
  );

test("each filter is in the address and leaves the calls that it means", async () => {
  const { page } = person;
  await person.open(`/logs?key=${key.apiKeyId}`);
  await shows(5);
  await page.getByRole("combobox", { name: "Code" }).click();
  await page.getByRole("option", { name: "not_found" }).click();
  await page.waitForURL(/code=not_found/);
  await shows(1);
  await page.getByText("user 999999 not found").waitFor();
  await page.getByRole("button", { name: "Clear filters" }).click();
  await page.getByRole("combobox", { name: "Key" }).fill("caller");
  await page.getByRole("option", { name: /key of caller/ }).click();
  await page.waitForURL(new RegExp(key.apiKeyId));
  await page.getByRole("button", { name: /More filters/ }).click();
  await page.getByRole("combobox", { name: "Denial reason" }).click();
  await page.getByRole("option", { name: "Staff required" }).click();
  await page.waitForURL(/reason=STAFF_REQUIRED/);
  await shows(1);
  await person.open(`/logs?key=${key.apiKeyId}&service=api.users.UserService&method=GetUser`);
  await shows(4);
  await person.open(`/logs?key=${key.apiKeyId}&min=60000`);
  await page.getByText("No call matches").waitFor();
  await person.open(`/logs?user=${key.userId}&range=15m&errors=1`);
  await shows(2);
  await page.getByRole("searchbox", { name: "Search error messages" }).fill("staff");
  await page.waitForURL(/text=staff/);
  await shows(1);
  person.assertNothingOdd();
});

test("on a phone the cards show why a call failed, and nothing that is filtered by", async () => {
  const { page } = person;
  await page.setViewportSize({ width: 390, height: 844 });
  await person.open(`/logs?key=${key.apiKeyId}`);
  await shows(5);
  const message = page.getByText("user 999999 not found");
  await message.waitFor();
  const shown = await rows().locator("td:visible").allTextContents();
  assert.ok(!shown.includes("") && !shown.includes("caller"), shown.join());
  const box = await message.boundingBox();
  assert.ok(box !== null && box.x >= 0 && box.x + box.width <= 390);
  person.assertNothingOdd();
});

test("a row opens with all that is known of it, by its own address too", async () => {
  const { page } = person;
  await person.open(`/logs?key=${key.apiKeyId}&reason=STAFF_REQUIRED`);
  await page.getByRole("link", { name: /DeleteUser/ }).click();
  const drawer = page.getByRole("dialog", { name: "DeleteUser" });
  await drawer.getByText("The method is for staff, and the key's user is not.").waitFor();
  for (const text of [
    "api.users.UserService",
    "permission_denied",
    "127.0.0.1",
    "connect",
    "key of caller",
  ]) {
    await drawer.getByText(text, { exact: true }).first().waitFor();
  }
  const row = new URL(page.url()).searchParams.get("row");
  await person.open(`/logs?row=${row}&code=ok`);
  await drawer.getByText("permission_denied").waitFor();
  await page.keyboard.press("Escape");
  await drawer.waitFor({ state: "hidden" });
  assert.ok(!page.url().includes("row="));
  person.assertNothingOdd();
});

test("the live tail shows calls as they end, holds them while it is paused, and lets them in again", async () => {
  const { page } = person;
  await person.open(`/logs?key=${key.apiKeyId}`);
  await page.getByRole("button", { name: "Live tail" }).click();
  await page.getByText("Waiting for calls").waitFor();
  const call = () => latchkey.as(key.token).users.getUser({ userId: key.userId });
  await call();
  await shows(1);
  await page.getByRole("button", { name: "Pause" }).click();
  await call();
  await call();
  await page.getByText("Paused: 2 new calls wait").waitFor();
  await shows(1);
  await page.getByRole("button", { name: "Resume" }).click();
  await shows(3);
  await page.getByRole("button", { name: "Stop live tail" }).click();
  await until(
    () => rows().count(),
    (count) => count >= 8,
  );
  person.assertNothingOdd();
});

test("what the filters leave is saved as CSV", async () => {
  const { page } = person;
  await person.open(`/logs?key=${key.apiKeyId}&errors=1`);
  await page.getByRole("button", { name: "Export" }).click();
  const [file] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Save file" }).click(),
  ]);
  assert.match(file.suggestedFilename(), /^request-logs-.*\.csv$/);
  const lines = (await readFile(await file.path(), "utf8")).trim().split("\r\n");
  assert.match(lines[0] ?? "", /^id,time,service,method,/);
  assert.equal(lines.length, 3);
  assert.match(lines[1] ?? "", /DeleteUser.*STAFF_REQUIRED/);
  person.assertNothingOdd();
});

test("the console's own calls are left out unless they are asked for", async () => {
  const { page } = person;
  await person.open("/logs?method=ListApiKeys");
  await page.getByText("No call matches").waitFor();
  await page.getByRole("button", { name: /More filters/ }).click();
  await page.getByRole("checkbox", { name: "The console's own calls too" }).check();
  await page.waitForURL(/console=1/);
  await page
    .getByRole("link", { name: /ListApiKeys/ })
    .first()
    .waitFor();
  person.assertNothingOdd();
});
