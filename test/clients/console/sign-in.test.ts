/** Signing in and out, and what happens to a page whose session ends. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { noteSecret } from "../../harness/secrets.ts";
import { createUserAndKey, secretKey } from "../../harness/server.ts";
import { latchkey, openConsole, person } from "./chromium.ts";

openConsole();

async function staffKey(name: string) {
  const key = await createUserAndKey(latchkey.asStaff, name);
  await latchkey.asStaff.admin.updateUser({
    user: { id: key.userId, isStaff: true },
    updateMask: { paths: ["is_staff"] },
  });
  return key;
}

test("a staff user's token signs in, leads to where one wanted to go, and is kept nowhere in the page", async () => {
  const { token } = await staffKey("ada");
  await person.open("/keys?q=invoices");
  const { page } = person;
  await page.waitForURL(/\/console\/sign-in/);
  await person.signIn(token);
  await page.getByRole("heading", { name: "API keys" }).waitFor();
  assert.equal(await page.getByRole("searchbox", { name: "Search keys" }).inputValue(), "invoices");
  const kept = await page.evaluate<string>(`[
    document.cookie, location.href, document.documentElement.outerHTML,
    JSON.stringify([{ ...localStorage }, { ...sessionStorage }]),
    ...[...document.querySelectorAll("input")].map((input) => input.value),
  ].join("\\n")`);
  assert.ok(!kept.includes(token), "the token is in the page");
  const cookies = await page.context().cookies();
  assert.deepEqual(
    cookies.map(({ name, httpOnly, sameSite }) => [name, httpOnly, sameSite]),
    [["latchkey_session", true, "Strict"]],
  );
  assert.ok(!JSON.stringify(cookies).includes(token));
  person.assertNothingOdd();
});

test("a token that is no good is refused with the reason, and the secret key signs in", async () => {
  await person.open("");
  const { page } = person;
  const field = page.getByLabel("API key token");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("Paste a token.").waitFor();
  await field.fill("lk_nonsense");
  await field.press("Enter");
  await page.getByText("Invalid API key.").waitFor();
  const { userId } = await createUserAndKey(latchkey.asStaff, "limited");
  const { token } = await latchkey.asStaff.keys.createApiKey({
    userId,
    name: "limited",
    allowedMethods: ["api.users.UserService/*"],
  });
  await field.fill(noteSecret(token));
  await field.press("Enter");
  await page.getByText("This key is limited to some methods and cannot sign in here.").waitFor();
  await person.signIn(secretKey);
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  person.assertNothingOdd();
});

test("signing out ends the session, also for who keeps its cookie", async () => {
  await person.open("");
  const { page } = person;
  await person.signIn();
  const cookies = await page.context().cookies();
  await page.getByRole("button", { name: /account menu/ }).click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  await page.waitForURL(/\/console\/sign-in/);
  await page.context().addCookies(cookies);
  await page.evaluate(`localStorage.setItem("latchkey-signed-in", "1")`);
  await person.open("/keys");
  await page.waitForURL(/\/console\/sign-in/);
  person.assertNothingOdd();
});

test("revoking the key behind it ends a session in the middle of a form, and nothing is lost on signing in again", async () => {
  const { userId, apiKeyId, token } = await staffKey("grace");
  await person.open("/keys/new");
  const { page } = person;
  await person.signIn(token);
  await page.getByLabel("Name").fill("half done");
  await page.getByLabel("Description").fill("typed before the session ended");
  await latchkey.asStaff.keys.revokeApiKey({ id: apiKeyId });

  await page.getByRole("button", { name: "Create API key" }).click();
  const dialog = page.getByRole("dialog", { name: "Your session has ended" });
  await dialog.waitFor();
  assert.equal((await latchkey.asStaff.keys.listApiKeys({ search: "half done" })).apiKeys.length, 0);
  assert.equal(await page.getByLabel("Description").inputValue(), "typed before the session ended");

  await dialog.getByLabel("Token").fill(token);
  await dialog.getByRole("button", { name: "Sign in" }).click();
  await dialog.getByText(/revoked/i).waitFor();
  const next = await latchkey.asStaff.keys.createApiKey({ userId, name: "next" });
  await dialog.getByLabel("Token").fill(next.token);
  await dialog.getByRole("button", { name: "Sign in" }).click();

  // The call that was refused is made now, with all that was typed.
  await page.getByRole("heading", { name: "“half done” is ready" }).waitFor();
  const { apiKeys } = await latchkey.asStaff.keys.listApiKeys({ search: "half done" });
  assert.deepEqual(
    apiKeys.map(({ description }) => description),
    ["typed before the session ended"],
  );
  person.assertNothingOdd();
});

test("a plain user sees their own keys and calls, and nothing of others", async () => {
  const other = await createUserAndKey(latchkey.asStaff, "secretive");
  await latchkey.as(other.token).users.getUser({ userId: other.userId });
  const { token } = await createUserAndKey(latchkey.asStaff, "plain");
  await person.open("");
  const { page } = person;
  await person.signIn(token);
  const pages = page.getByRole("navigation", { name: "Pages" });
  assert.deepEqual(await pages.getByRole("link").allTextContents(), [
    "Overview",
    "Request logs",
    "API keys",
    "Try it",
  ]);
  for (const path of ["", "/keys", "/logs", `/keys/${other.apiKeyId}`, "/users", "/audit", "/server"]) {
    await person.open(path);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await page.waitForLoadState("networkidle");
    assert.doesNotMatch(await page.content(), /secretive/, `at ${path}`);
  }
  await person.open("/keys");
  await page.getByRole("link", { name: "key of plain" }).waitFor();
  person.assertNothingOdd();
});
