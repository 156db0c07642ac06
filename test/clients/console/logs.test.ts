/** The request log in the console: filtered, followed, opened, saved. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { v7 as uuidv7 } from "uuid";
import { packHeld } from "../../harness/packed.ts";
import { noteSecret } from "../../harness/secrets.ts";
import { createUserAndKey } from "../../harness/server.ts";
import { until } from "../../harness/until.ts";
import { callOf } from "../../usage/batches.ts";
import { browser, latchkey, openConsole, openPerson, person } from "./chromium.ts";

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

test("calls that are still to come are told of, and come by themselves", async (t) => {
  const { page } = person;
  const method = { service: "packed.Service", name: "Get" };
  const letGo = await packHeld(latchkey.databaseUrl, [callOf(uuidv7(), { method })]);
  t.after(letGo);
  await person.open("/logs?service=packed.Service");
  await page.getByText("Calls of the last moments are missing").waitFor();
  await letGo();
  await shows(1);
  await page.getByText("Calls of the last moments are missing").waitFor({ state: "detached" });
  person.assertNothingOdd();
});

const utc = (local: string) => new Date(local).toISOString().replace(/(:00)?\.000Z$/, "Z");

test("the time is a range, a day, or moments that mean the same wherever a link is opened", async () => {
  const { page } = person;
  await person.open(`/logs?key=${key.apiKeyId}`);
  await shows(5);
  const time = (name: string | RegExp) => page.getByRole("button", { name });
  await time("Any time").click();
  await time("Yesterday").click();
  await page.waitForURL(/from=.*to=/);
  await page.getByText("No call matches").waitFor();
  assert.equal(await time("Yesterday").count(), 2, "the bar says it too");
  await time("1 hour").click();
  await page.waitForURL(/range=1h/);
  await shows(5);
  assert.ok(!page.url().includes("from="));

  // A day without a time.
  await page.getByLabel("From", { exact: true }).fill("2026-01-31");
  const addressHas = (name: string, local: string) =>
    page.waitForURL(({ searchParams }) => searchParams.get(name) === utc(local));
  await addressHas("from", "2026-01-31T00:00");
  assert.ok(!page.url().includes("range="));
  await shows(5);
  await page.getByLabel("Until", { exact: true }).fill("2026-01-31");
  await addressHas("to", "2026-01-31T23:59:59.999");
  await page.getByText("No call matches").waitFor();
  await page.getByLabel("Until, time").fill("12:30");
  await addressHas("to", "2026-01-31T12:30");
  await time(/Jan 31, 00:00.*12:30/).waitFor();
  person.assertNothingOdd();

  // Links as they were, and from elsewhere.
  const tokyo = await openPerson(browser, latchkey.url, { timezoneId: "Asia/Tokyo" });
  try {
    await tokyo.open("/logs?from=2026-01-31T10:00&to=2026-01-31T12:00%2B02:00");
    await tokyo.signIn();
    await tokyo.page.getByRole("button", { name: /Jan 31, 10:00.*19:00/ }).click();
    assert.equal(await tokyo.page.getByLabel("Until, time").inputValue(), "19:00");
    tokyo.assertNothingOdd();
  } finally {
    await tokyo.close();
  }
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

test("what a badge or an error says in full can be pointed at, and opens its row all the same", async () => {
  const { page } = person;
  await person.open(`/logs?key=${key.apiKeyId}&reason=STAFF_REQUIRED`);
  await shows(1);
  const drawer = page.getByRole("dialog", { name: "DeleteUser" });
  const row = rows().first();
  for (const cell of [row.getByText("Staff required"), row.getByText(/^this method needs/)]) {
    // Were the link above it, it would take the click, and the pointer.
    await cell.click();
    await drawer.waitFor();
    await page.keyboard.press("Escape");
    await drawer.waitFor({ state: "hidden" });
    const title = await cell.evaluate((element: { title: string }) => element.title);
    assert.match(title, /staff/);
  }
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

test("of a call that its key's methods left out one comes to where they are widened", async () => {
  const { page } = person;
  const { apiKey, token } = await latchkey.asStaff.keys.createApiKey({
    userId: key.userId,
    name: "narrow",
    allowedMethods: ["api.users.UserService/GetUser"],
  });
  await latchkey
    .as(noteSecret(token))
    .users.updateProfile({ bio: "" })
    .catch(() => {});
  await until(
    () => latchkey.asStaff.logs.listRequestLogs({ filter: { apiKeyId: apiKey?.id ?? "" } }),
    ({ requestLogs }) => requestLogs.length === 1,
  );
  await person.open(`/logs?key=${apiKey?.id}`);
  await page.getByRole("link", { name: /UpdateProfile/ }).click();
  const drawer = page.getByRole("dialog", { name: "UpdateProfile" });
  await drawer.getByText("Latchkey refused this call").waitFor();
  await drawer.getByRole("link", { name: "Edit the key" }).click();
  await page.waitForURL(new RegExp(`/keys/${apiKey?.id}/edit`));
  await page.getByRole("checkbox", { name: "api.users.UserService/UpdateProfile" }).check();
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
  await page.getByText(/^2 rows saved as request-logs-.*\.csv\.$/).waitFor();
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
