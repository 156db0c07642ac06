/** The main job from web pages in a real browser, by their origin. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createConnectTransport } from "@connectrpc/connect-node";
import {
  type Clients,
  clientsOf,
  createUserAndKey,
  secretKey,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const apiKeyHeader = "x-team-token";
const giveUpMs = 60_000;

interface Failure {
  code: string;
  message: string;
  reason?: string;
  challenge: string | null;
  requestId: boolean;
}

interface Seen {
  getUser: string | Failure;
  requestId: boolean;
  updateProfile: string | Failure;
  listUsers: number | Failure;
  anonymous: string | Failure;
  missing: Failure;
  unknown: Failure;
  staff: Failure;
  notThere: Failure;
}

/** Everything that the page's script imports, as it lies in node_modules: no bundler is needed. */
function importMap(): { imports: Record<string, string> } {
  const imports: Record<string, string> = { generated: "/test/clients/generated.js" };
  for (const name of ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web"]) {
    const folder = `/node_modules/${name}`;
    const { exports } = JSON.parse(readFileSync(`${repository}${folder}/package.json`, "utf8")) as {
      exports: Record<string, { import?: string | { default?: string } }>;
    };
    for (const [path, conditions] of Object.entries(exports)) {
      const file = typeof conditions.import === "string" ? conditions.import : conditions.import?.default;
      if (file !== undefined) imports[join(name, path)] = join(folder, file);
    }
  }
  return { imports };
}

const generated = `
export { UserService } from "/src/gen/api/users/user_service_pb.js";
export { ErrorInfoSchema } from "/src/gen/google/rpc/error_details_pb.js";
`;

/** A web site, that is to say an origin, with one page. */
class Site {
  readonly server: Server = createServer((req, res) => void this.#answer(req, res));
  readonly #settings: () => object;
  readonly #seen = Promise.withResolvers<Record<string, Seen>>();

  constructor(settings: () => object) {
    this.#settings = settings;
  }

  async open(): Promise<string> {
    await once(this.server.listen(0, "127.0.0.1"), "listening");
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** What the page's script saw. */
  seen(browser: ChildProcess): Promise<Record<string, Seen>> {
    const ended = once(browser, "exit").then(([code]) => {
      throw new Error(`chromium ended with ${code} before the page's script did`);
    });
    const late = new Promise<never>((_, reject) => {
      setTimeout(reject, giveUpMs, new Error(`the page's script did not end in ${giveUpMs} ms`)).unref();
    });
    return Promise.race([this.#seen.promise, ended, late]);
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const path = req.url ?? "/";
    const script = (code: string | Buffer) => res.setHeader("content-type", "text/javascript").end(code);
    if (path === "/") {
      res.setHeader("content-type", "text/html; charset=utf-8");
      res.end(`<!doctype html>
<script type="importmap">${JSON.stringify(importMap())}</script>
<script type="application/json" id="settings">${JSON.stringify(this.#settings())}</script>
<script type="module" src="/test/clients/page.js"></script>`);
    } else if (path === "/seen") {
      this.#seen.resolve(JSON.parse(await text(req)) as Record<string, Seen>);
      res.end();
    } else if (path === "/test/clients/generated.js") {
      script(generated);
    } else if (path.endsWith(".js") && !path.includes("..")) {
      readFile(`${repository}${path}`).then(script, () => res.writeHead(404).end());
    } else {
      res.writeHead(404).end();
    }
  }
}

/** Opens a page in a headless browser with a profile of its own. */
async function browse(url: string): Promise<{ browser: ChildProcess; close: () => Promise<void> }> {
  const command = process.env.LATCHKEY_TEST_CHROMIUM || "chromium";
  try {
    execFileSync(command, ["--version"], { stdio: "ignore" });
  } catch {
    throw new Error(
      `there is no ${command}: install it (Debian: apt-get install chromium), or set LATCHKEY_TEST_CHROMIUM to a Chromium or Chrome`,
    );
  }
  const profile = await mkdtemp(join(tmpdir(), "latchkey-chromium-"));
  const browser = spawn(
    command,
    [
      ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"],
      ...["--disable-background-networking", "--no-proxy-server", `--user-data-dir=${profile}`, url],
    ],
    { stdio: "ignore", detached: true },
  );
  const exited = once(browser, "exit");
  return {
    browser,
    async close() {
      // Its children are of its process group.
      if (browser.exitCode === null && browser.pid !== undefined) process.kill(-browser.pid, "SIGKILL");
      await exited;
      await rm(profile, { recursive: true, force: true, maxRetries: 20 });
    },
  };
}

let latchkey: TestServer;
let staff: Clients;
let key: Awaited<ReturnType<typeof createUserAndKey>>;
let otherKey: typeof key;
let seen: Record<string, Seen>;
let seenByOther: Record<string, Seen>;
const settings = (of: () => typeof key) => () => ({
  target: latchkey.url,
  header: apiKeyHeader,
  token: of().token,
  userId: String(of().userId),
});
const site = new Site(settings(() => key));
const other = new Site(settings(() => otherKey));

before(async () => {
  const origins = [await site.open(), await other.open()] as const;
  latchkey = await startServer({ corsOrigins: [origins[0]], apiKeyHeader });
  staff = clientsOf(
    createConnectTransport({
      baseUrl: latchkey.url,
      httpVersion: "1.1",
      interceptors: [
        (next) => (req) => {
          req.header.set(apiKeyHeader, secretKey);
          return next(req);
        },
      ],
    }),
  );
  key = await createUserAndKey(staff, "ada");
  otherKey = await createUserAndKey(staff, "mallory");
  for (const [origin, page, keep] of [
    [origins[0], site, (found: typeof seen) => (seen = found)],
    [origins[1], other, (found: typeof seen) => (seenByOther = found)],
  ] as const) {
    const { browser, close } = await browse(origin);
    try {
      keep(await page.seen(browser));
    } finally {
      await close();
    }
  }
});
after(async () => {
  site.server.close();
  other.server.close();
  await latchkey?.close();
});

const ways = ["gRPC-Web", "Connect JSON", "Connect binary", "Connect GET"] as const;

for (const way of ways) {
  test(`a page of an allowed origin calls over ${way} with a key in the header that is configured`, () => {
    const { getUser, requestId, updateProfile, listUsers, anonymous } = seen[way]!;
    assert.deepEqual(
      { getUser, updateProfile, listUsers, anonymous, requestId },
      {
        getUser: "ada@example.com",
        updateProfile: `by ${way}`,
        listUsers: 3,
        anonymous: "",
        requestId: true,
      },
    );
  });

  test(`a page of an allowed origin reads why it was refused over ${way}`, () => {
    const { missing, unknown, staff: notStaff, notThere } = seen[way]!;
    assert.match(missing.message, new RegExp(`send its token in the ${apiKeyHeader} header`));
    assert.deepEqual(missing, {
      code: "Unauthenticated",
      message: missing.message,
      reason: "MISSING",
      challenge: "Bearer",
      requestId: true,
    });
    assert.deepEqual(unknown, {
      code: "Unauthenticated",
      message: "invalid API key",
      reason: "INVALID_API_KEY",
      challenge: 'Bearer error="invalid_token"',
      requestId: true,
    });
    assert.deepEqual([notStaff.code, notStaff.reason], ["PermissionDenied", "STAFF_REQUIRED"]);
    assert.deepEqual([notThere.code, notThere.message], ["NotFound", `user ${2n ** 62n} not found`]);
  });

  test(`a page of another origin gets nothing over ${way}`, () => {
    const { getUser, updateProfile, listUsers, anonymous, missing } = seenByOther[way]!;
    for (const failure of [getUser, updateProfile, listUsers, anonymous, missing]) {
      assert.ok(typeof failure === "object", `it got ${JSON.stringify(failure)}`);
      assert.match(failure.message, /Failed to fetch/);
      assert.equal(failure.reason, undefined);
    }
  });
}

test("each call of the allowed page is counted and logged, once; its preflights are not", async () => {
  const perWay = ["GetUser", "UpdateProfile", "ListUsers", "DeleteUser", "GetUser"];
  await until(
    async () => (await staff.keys.getApiKey({ id: key.apiKeyId })).apiKey?.requestCount,
    (count) => count === BigInt(ways.length * perWay.length),
  );
  const { requestLogs } = await staff.logs.listRequestLogs({ filter: { apiKeyId: key.apiKeyId } });
  assert.deepEqual(
    requestLogs.reverse().map((row) => [row.method, row.protocol]),
    ways.flatMap((way) => perWay.map((method) => [method, way === "gRPC-Web" ? "grpc-web" : "connect"])),
  );
  for (const row of requestLogs) {
    assert.equal(row.userId, key.userId);
    assert.equal(row.peerAddress, "127.0.0.1");
    assert.match(row.userAgent, /Chrome\//);
  }
});

test("no call of the other origin's page with its key was made at all", async () => {
  assert.equal((await staff.keys.getApiKey({ id: otherKey.apiKeyId })).apiKey?.requestCount, 0n);
  const { requestLogs } = await staff.logs.listRequestLogs({ filter: { apiKeyId: otherKey.apiKeyId } });
  assert.deepEqual(requestLogs, []);
});
