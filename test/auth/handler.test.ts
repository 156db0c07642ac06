/** What a handler learns of its caller, and how it refuses one. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, createContextValues, type HandlerContext } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import {
  getPrincipal,
  type Principal,
  principalKey,
  requireStaff,
  requireUser,
} from "../../src/auth/principal.ts";
import { createUserAndKey, secretKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { call, compileTableServices, implement, type Kind, methodOf } from "./table-services.ts";

let compiled: Record<string, DescService>;
let latchkey: TestServer;
let ids: { ada: bigint; adaKey: string };
let headers: Record<string, Record<string, string>>;

const readers: Readonly<Record<string, (context: HandlerContext) => Principal | undefined>> = {
  getPrincipal,
  requireUser,
  requireStaff,
};

/** "first requireUser": reads the principal before it answers; "late requireUser": after its first answer. */
const implementation = implement((asked, context) =>
  (async function* () {
    for await (const text of asked) {
      const [when, reader = ""] = text.split(" ");
      if (when === "late") yield "first";
      yield readers[reader]?.(context)?.username ?? "anonymous";
    }
  })(),
);

before(async () => {
  compiled = compileTableServices();
  latchkey = await startServer(
    { publicMethods: ["test.access.Listed/*"] },
    {
      routes(router) {
        for (const service of Object.values(compiled)) router.service(service, implementation);
      },
    },
  );
  const ada = await createUserAndKey(latchkey.asStaff, "ada");
  const grace = await createUserAndKey(latchkey.asStaff, "grace");
  await latchkey.sql`UPDATE users SET is_staff = true WHERE id = ${String(grace.userId)}`;
  ids = { ada: ada.userId, adaKey: ada.apiKeyId };
  headers = {
    nobody: {},
    ada: { "x-api-key": ada.token },
    grace: { "x-api-key": grace.token },
    secretKey: { authorization: `Bearer ${secretKey}` },
    "a revoked key": { "x-api-key": (await revoked("rita")).token },
  };
});
after(() => latchkey.close());

async function revoked(username: string) {
  const made = await createUserAndKey(latchkey.asStaff, username);
  await latchkey.asStaff.keys.revokeApiKey({ id: made.apiKeyId });
  return made;
}

const transports = {
  gRPC: () => createGrpcTransport({ baseUrl: latchkey.url }),
  "gRPC-Web": () => createGrpcWebTransport({ baseUrl: latchkey.url, httpVersion: "1.1" }),
  Connect: () => createConnectTransport({ baseUrl: latchkey.url, httpVersion: "1.1" }),
};

/** Collects the answers and, at their end, the code. */
async function outcome(
  transport: ReturnType<(typeof transports)["gRPC"]>,
  service: string,
  kind: Kind,
  text: string,
  caller: string,
  requestId = "",
): Promise<string[]> {
  const all: string[] = [];
  try {
    const options = { text, headers: { ...headers[caller], "x-request-id": requestId } };
    for await (const answer of call(transport, methodOf(compiled[service], kind), options)) all.push(answer);
  } catch (error) {
    assert.ok(error instanceof ConnectError, String(error));
    all.push(Code[error.code]);
  }
  return all;
}

/** On methods that let everyone in: by reader, what comes of each caller. */
const table: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  getPrincipal: {
    nobody: "anonymous",
    ada: "ada",
    grace: "grace",
    secretKey: "admin",
    "a revoked key": "anonymous",
  },
  requireUser: {
    nobody: "Unauthenticated",
    ada: "ada",
    grace: "grace",
    secretKey: "admin",
    "a revoked key": "Unauthenticated",
  },
  requireStaff: {
    nobody: "Unauthenticated",
    ada: "PermissionDenied",
    grace: "grace",
    secretKey: "admin",
    "a revoked key": "Unauthenticated",
  },
};

for (const [reader, callers] of Object.entries(table)) {
  for (const [caller, expected] of Object.entries(callers)) {
    test(`${reader} in a handler gives ${caller} ${expected}, over every protocol and in every kind of method`, async () => {
      for (const [protocol, connect] of Object.entries(transports)) {
        const transport = connect();
        const kinds: Kind[] = protocol === "gRPC" ? ["Unary", "Down", "Up", "Both"] : ["Unary", "Down"];
        for (const service of ["Public", "Listed"]) {
          for (const kind of kinds) {
            assert.deepEqual(
              await outcome(transport, service, kind, `first ${reader}`, caller),
              [expected],
              `${protocol} ${service}.${kind}`,
            );
          }
        }
      }
    });

    test(`${reader} after a stream's first message gives ${caller} ${expected}, behind that message`, async () => {
      for (const [protocol, connect] of Object.entries(transports)) {
        for (const kind of (protocol === "gRPC" ? ["Down", "Both"] : ["Down"]) as Kind[]) {
          assert.deepEqual(
            await outcome(connect(), "Public", kind, `late ${reader}`, caller),
            ["first", expected],
            `${protocol} ${kind}`,
          );
        }
      }
    });
  }
}

test("a refusal of the handler's own is logged with its code, its caller and no denial reason, and counted", async () => {
  const una = await createUserAndKey(latchkey.asStaff, "una");
  headers.una = { "x-api-key": una.token };
  const calls = [
    ["Down", "first", "handler.down"],
    ["Down", "late", "handler.late"],
    ["Unary", "first", "handler.unary"],
  ] as const;
  for (const [kind, when, id] of calls) {
    await outcome(transports.gRPC(), "Optional", kind, `${when} requireStaff`, "una", id);
  }
  const rows = await until(
    () => latchkey.sql<Record<string, unknown>[]>`
      SELECT request_id, code, denial_reason, user_id FROM request_logs
      WHERE api_key_id = ${una.apiKeyId} ORDER BY request_id`,
    (found) => found.length >= calls.length,
  );
  assert.deepEqual(
    rows.map((row) => ({ ...row })),
    calls.map(([, , id]) => ({
      request_id: id,
      code: Code.PermissionDenied,
      denial_reason: null,
      user_id: String(una.userId),
    })),
  );
  const { apiKey } = await latchkey.asStaff.keys.getApiKey({ id: una.apiKeyId });
  assert.equal(apiKey?.requestCount, 3n);
});

test("the principal is read from context values alone, and never holds a credential", () => {
  const principal: Principal = {
    userId: 7n,
    username: "ada",
    isStaff: false,
    canVerify: false,
    credentialKind: "api_key",
    apiKeyId: "01890000-0000-7000-8000-000000000001",
  };
  const context = (value: Principal | undefined) => ({
    values: createContextValues().set(principalKey, value),
  });
  const code = (run: () => unknown) => {
    try {
      run();
      return "ok";
    } catch (error) {
      return ConnectError.from(error).code;
    }
  };
  assert.equal(getPrincipal({ values: createContextValues() }), undefined);
  assert.equal(getPrincipal(context(principal)), principal);
  assert.equal(requireUser(context(principal)), principal);
  assert.equal(
    code(() => requireUser(context(undefined))),
    Code.Unauthenticated,
  );
  assert.equal(
    code(() => requireStaff(context(undefined))),
    Code.Unauthenticated,
  );
  assert.equal(
    code(() => requireStaff(context(principal))),
    Code.PermissionDenied,
  );
  const staff = { ...principal, isStaff: true };
  assert.equal(requireStaff(context(staff)), staff);
});

test("what a handler gets of a caller is the user, how they signed in and the key's id, and nothing else", async () => {
  const seen: (Principal | undefined)[] = [];
  const other = await startServer(
    { databaseUrl: latchkey.databaseUrl },
    {
      routes(router) {
        router.service(
          compiled.Optional!,
          implement((_, context) => {
            seen.push(getPrincipal(context));
            return [""];
          }),
        );
      },
    },
  );
  try {
    const transport = createGrpcTransport({ baseUrl: other.url });
    for (const caller of ["ada", "secretKey", "nobody"]) {
      for await (const _ of call(transport, methodOf(compiled.Optional, "Unary"), {
        headers: headers[caller]!,
      }));
    }
  } finally {
    await other.close();
  }
  const [admin] = await latchkey.sql<{ id: string }[]>`SELECT id FROM users WHERE username = 'admin'`;
  assert.deepEqual(seen, [
    {
      userId: ids.ada,
      username: "ada",
      isStaff: false,
      canVerify: false,
      credentialKind: "api_key",
      apiKeyId: ids.adaKey,
    },
    {
      userId: BigInt(admin!.id),
      username: "admin",
      isStaff: true,
      canVerify: true,
      credentialKind: "secret_key",
      apiKeyId: undefined,
    },
    undefined,
  ]);
});
