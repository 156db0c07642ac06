/** The console in headless Chromium, driven as a person would, and watched for what no page of it may do. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { after, afterEach, before, beforeEach } from "node:test";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { secretKey, startServer, type TestServer } from "../../harness/server.ts";

const command = process.env.LATCHKEY_TEST_CHROMIUM || inPath("chromium");

function inPath(name: string): string {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file)) ?? name;
}

/** Longer than anything of the console takes, on a busy machine too. */
const patienceMs = 30_000;

export async function launchChromium(): Promise<Browser> {
  try {
    return await chromium.launch({
      executablePath: command,
      args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"],
    });
  } catch (error) {
    throw new Error(
      `${command} cannot be started: install it (Debian: apt-get install chromium), or set LATCHKEY_TEST_CHROMIUM to a Chromium or Chrome`,
      { cause: error },
    );
  }
}

/** A browser of its own, as far as a site can tell: with its cookies and its storage. */
export interface Person {
  readonly page: Page;
  /** Goes to a page of the console by its path, e.g. "/keys". */
  open(path: string): Promise<void>;
  /** Signs in on the page that is open, or on the first one. */
  signIn(token?: string): Promise<void>;
  /** Fails where a page broke the Content-Security-Policy, asked another origin, or had an error. */
  assertNothingOdd(): void;
  close(): Promise<void>;
}

export async function openPerson(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<Person> {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  context.setDefaultTimeout(patienceMs);
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: url });
  const page = await context.newPage();
  const odd: string[] = [];
  page.on("pageerror", (error) => odd.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // What the browser says of a request that failed, the tests cause themselves.
    const isNetwork = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !isNetwork) odd.push(`console: ${message.text()}`);
  });
  context.on("request", (request) => {
    if (new URL(request.url()).origin !== url) odd.push(`request to ${request.url()}`);
  });
  return {
    page,
    async open(path) {
      await page.goto(`${url}/console${path}`);
    },
    async signIn(token = secretKey) {
      if (!page.url().startsWith(url)) await page.goto(`${url}/console`);
      await page.getByLabel("API key token").fill(token);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.locator("#main").waitFor();
    },
    assertNothingOdd() {
      assert.deepEqual(odd, []);
    },
    async close() {
      await context.close();
    },
  };
}

/** Of the file whose tests called {@link openConsole}; each file is a process of its own. */
export let browser: Browser;
export let latchkey: TestServer;
/** Who looks at the console in the test that runs. */
export let person: Person;

/**
 * A browser and a server for all tests of a file, and for each test somebody who is
 * signed in at a path of the console; without a path, who has no page open yet.
 * `prepare` makes, once, what the tests look at: another `before` would not wait for the server.
 */
export function openConsole(path?: string, prepare?: () => Promise<void>): void {
  before(async () => {
    [browser, latchkey] = await Promise.all([launchChromium(), startServer()]);
    await prepare?.();
  });
  after(async () => {
    await browser?.close();
    await latchkey?.close();
  });
  beforeEach(async () => {
    person = await openPerson(browser, latchkey.url);
    if (path === undefined) return;
    await person.open(path);
    await person.signIn();
  });
  afterEach(async () => {
    await person?.close();
  });
}
