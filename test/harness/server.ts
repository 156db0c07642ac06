/** Servers for tests: in this process, or one of their own. */
import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import type postgres from "postgres";
import { type Config, readConfig, withDefaults } from "../../src/config.ts";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import { ApiKeyService, CreateApiKeyRequestSchema } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { AuditLogService } from "../../src/gen/latchkey/v1/audit_log_service_pb.js";
import { RequestLogService } from "../../src/gen/latchkey/v1/request_log_service_pb.js";
import { ServerService } from "../../src/gen/latchkey/v1/server_service_pb.js";
import { SessionService } from "../../src/gen/latchkey/v1/session_service_pb.js";
import { StatsService } from "../../src/gen/latchkey/v1/stats_service_pb.js";
import { UserAdminService } from "../../src/gen/latchkey/v1/user_admin_service_pb.js";
import { createServer, type Server, type ServerOptions } from "../../src/server.ts";
import { createTestDatabase, openSql } from "./postgres.ts";
import { logFile, noteSecret } from "./secrets.ts";
import { until } from "./until.ts";

export const secretKey = "sk_test_0123456789abcdef";

/** Of the run, for all servers of tests that do not say otherwise: LATCHKEY_LEAN_UNARY=false npm test. */
const { LATCHKEY_LEAN_UNARY = "true" } = process.env;

export interface TestServer {
  readonly server: Server;
  /** E.g. "http://127.0.0.1:12345". */
  readonly url: string;
  readonly port: number;
  readonly databaseUrl: string;
  /** Looks at the database past the server. */
  readonly sql: postgres.Sql;
  /** The server's log so far, parsed. */
  readonly logLines: Record<string, unknown>[];
  readonly asStaff: Clients;
  as(token: string): Clients;
  close(): Promise<void>;
}

/** Clients of every service over Connect, with one token. */
export interface Clients {
  readonly users: ReturnType<typeof createClient<typeof UserService>>;
  readonly keys: ReturnType<typeof createClient<typeof ApiKeyService>>;
  readonly logs: ReturnType<typeof createClient<typeof RequestLogService>>;
  readonly stats: ReturnType<typeof createClient<typeof StatsService>>;
  readonly admin: ReturnType<typeof createClient<typeof UserAdminService>>;
  readonly audit: ReturnType<typeof createClient<typeof AuditLogService>>;
  readonly sessions: ReturnType<typeof createClient<typeof SessionService>>;
  readonly server: ReturnType<typeof createClient<typeof ServerService>>;
}

/** Starts a server in this process, on a free port and, unless one is given, a database of its own. */
export async function startServer(
  options: Partial<Config> = {},
  extras: Pick<
    ServerOptions,
    "routes" | "logStream" | "onProgress" | "interceptors" | "plugins" | "tracerProvider"
  > = {},
): Promise<TestServer> {
  const databaseUrl = options.databaseUrl ?? (await createTestDatabase());
  const logLines: Record<string, unknown>[] = [];
  const file = logFile();
  const config = withDefaults({
    port: 0,
    secretKey: options.acceptSecretKey === false ? undefined : noteSecret(secretKey),
    dataDir: newDirectory(),
    leanUnary: readConfig({ LATCHKEY_LEAN_UNARY }).leanUnary,
    ...options,
    databaseUrl,
  });
  const logStream = {
    write(line: string) {
      appendFileSync(file, line);
      logLines.push(JSON.parse(line));
    },
  };
  const server = await createServer({ ...config, logStream, ...extras });
  const { port } = await server.listen().catch(async (error: unknown) => {
    await server.close();
    throw error;
  });
  const url = `${config.tlsCert === undefined ? "http" : "https"}://127.0.0.1:${port}`;
  const sql = openSql(databaseUrl);
  const as = (token: string) => clientsOf(connectTransport(url, token));
  return {
    server,
    url,
    port,
    databaseUrl,
    sql,
    logLines,
    asStaff: as(secretKey),
    as,
    async close() {
      await server.close();
      await sql.end();
    },
  };
}

/** Sends a text as the token, whether it can be one or not, above what the call itself has set. */
export function sendToken(token: string | undefined): Interceptor {
  return (next) => (req) => {
    if (token !== undefined) req.header.set("x-api-key", token);
    return next(req);
  };
}

/** A Connect transport over HTTP/1.1 that sends a token. */
export function connectTransport(baseUrl: string, token: string | undefined): Transport {
  return createConnectTransport({
    baseUrl,
    httpVersion: "1.1",
    interceptors: [sendToken(token)],
  });
}

export function clientsOf(transport: Transport): Clients {
  return {
    users: createClient(UserService, transport),
    keys: createClient(ApiKeyService, transport),
    logs: createClient(RequestLogService, transport),
    stats: createClient(StatsService, transport),
    admin: createClient(UserAdminService, transport),
    audit: createClient(AuditLogService, transport),
    sessions: createClient(SessionService, transport),
    server: createClient(ServerService, transport),
  };
}

/** Creates a user and a key for it over RPC. */
export async function createUserAndKey(
  staff: Clients,
  username: string,
): Promise<{ userId: bigint; apiKeyId: string; token: string }> {
  const user = await staff.users.createUser({ username, email: `${username}@example.com` });
  const { apiKey, token } = await staff.keys.createApiKey(
    create(CreateApiKeyRequestSchema, { userId: user.id, name: `key of ${username}` }),
  );
  return { userId: user.id, apiKeyId: apiKey?.id ?? "", token: noteSecret(token) };
}

/**
 * Clients with a new key of a user. Waits until the secret key signs in as a user that
 * there is: whom it signed in as may have been deleted a moment ago.
 */
export async function clientsOfOwnKey(server: TestServer, userId: bigint): Promise<Clients> {
  const create = () => server.asStaff.keys.createApiKey({ userId, name: "own" });
  const made = await until(
    () =>
      create().catch((error: unknown) => {
        if (ConnectError.from(error).code !== Code.Unauthenticated) throw error;
        return undefined;
      }),
    (answer) => answer !== undefined,
  );
  return server.as(noteSecret(made?.token ?? ""));
}

const directories: string[] = [];
process.on("exit", () => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

/** A folder for the data of a server, deleted when the file of tests has ended. */
export function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "latchkey-data-"));
  directories.push(directory);
  return directory;
}

/** The settings of a process on a new test database. */
export async function onDatabase(env: Record<string, string> = {}): Promise<Record<string, string>> {
  return {
    DATABASE_URL: await createTestDatabase(),
    LATCHKEY_DATA_DIR: newDirectory(),
    LATCHKEY_SECRET_KEY: noteSecret(secretKey),
    ...env,
  };
}

export interface ServerProcess {
  readonly child: ChildProcess;
  readonly url: string;
  /** What it printed on standard output. */
  readonly banner: string;
  /** Resolves with the exit code and what was printed on standard error. */
  readonly exited: Promise<{ code: number | null; stderr: string }>;
}

/** Starts `node src/main.ts` with an environment of its own and resolves once it has printed its banner. */
export async function spawnServer(env: Record<string, string>): Promise<ServerProcess> {
  const { child, exited, stdout } = spawnMain([], env);
  const printed = new Promise<string>((resolve) => {
    stdout((text) => {
      if (text.includes("is listening")) setImmediate(resolve, text);
    });
  });
  const failed = exited.then(({ code, stderr }) => {
    throw new Error(`the server ended with ${code}: ${stderr}`);
  });
  failed.catch(() => {});
  const banner = await Promise.race([printed, failed]);
  const url = banner.match(/https?:\/\/[^\s]+/)?.[0] ?? "";
  return { child, url, banner, exited };
}

/** Starts `node src/main.ts` with arguments. Its standard error is kept for the search for secrets. */
export function spawnMain(args: string[], env: Record<string, string>) {
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(process.execPath, ["src/main.ts", ...args], {
    env: { PATH, HOME, PORT: "0", LATCHKEY_LEAN_UNARY, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const listeners: ((text: string) => void)[] = [];
  let out = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
    for (const listen of listeners) listen(out);
  });
  const file = logFile();
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    appendFileSync(file, text);
  });
  const exited = new Promise<{ code: number | null; stderr: string; stdout: string }>((resolve) => {
    child.on("close", (code) => resolve({ code, stderr, stdout: out }));
  });
  return {
    child,
    exited,
    stdout(listen: (text: string) => void) {
      listeners.push(listen);
      listen(out);
    },
  };
}
