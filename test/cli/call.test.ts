/** `latchkey call`: any method, by what the server says of itself. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation, protoPath } from "grpc-health-check";
import { type Home, jsonLines, newHome } from "../harness/cli.ts";
import { noteSecret } from "../harness/secrets.ts";
import { createUserAndKey, secretKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

let server: TestServer;
let home: Home;
before(async () => {
  server = await startServer();
  home = newHome({ LATCHKEY_SERVER: server.url });
});
after(() => server.close());

const asStaff = { env: { LATCHKEY_TOKEN: secretKey } };

test("a unary call prints the answer as JSON, over each protocol, anonymous or not", async () => {
  await Promise.all(
    ["grpc", "grpc-web", "connect"].map(async (protocol) => {
      const args = ["call", "api.users.UserService/GetUser", '{"userId": 1}', "--protocol", protocol];
      const anonymous = await home.latchkey(args);
      assert.deepEqual([anonymous.code, anonymous.stderr], [0, ""]);
      assert.deepEqual(jsonLines(anonymous.stdout), [{ id: "1", username: "admin", email: "", bio: "" }]);
      const staff = await home.latchkey(args, asStaff);
      assert.equal(jsonLines(staff.stdout)[0]?.email, "admin@localhost.localdomain");
    }),
  );
});

test("a method may be written with a dot, and a request comes on standard input", async () => {
  const { code, stdout } = await home.latchkey(["call", "api.users.UserService.GetUser", "-"], {
    input: '{\n  "user_id": "2"\n}\n',
  });
  assert.deepEqual([code, jsonLines(stdout)[0]?.username], [0, "example"]);
});

test("a stream of answers is an object a line", async () => {
  const { code, stdout } = await home.latchkey(["call", "api.users.UserService/ListUsers"]);
  assert.equal(code, 0);
  assert.deepEqual(
    jsonLines(stdout).map(({ username }) => username),
    ["admin", "example"],
  );
});

test("a stream in both directions takes requests from arguments, and a line each from standard input", async () => {
  const method = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
  const byArguments = await home.latchkey([
    ...["call", method, '{"fileByFilename":"none"}', '{"fileContainingSymbol":"no.Such"}'],
  ]);
  assert.equal(byArguments.code, 0, byArguments.stderr);
  const errors = jsonLines(byArguments.stdout).map(({ errorResponse }) => errorResponse);
  assert.deepEqual(errors, [
    { errorCode: 5, errorMessage: 'file "none" not found' },
    { errorCode: 5, errorMessage: 'symbol "no.Such" not found' },
  ]);
  const byLines = await home.latchkey(["call", method, "-"], {
    input: '{"fileByFilename":"none"}\n\n{"fileByFilename":"none"}\n',
  });
  assert.equal(jsonLines(byLines.stdout).length, 2);
});

test("--header sends what a call needs besides", async () => {
  const args = ["call", "api.users.UserService/GetUser", '{"userId":1}', "-H", "x-request-id: of-this-test"];
  assert.equal((await home.latchkey(args)).code, 0);
  await until(
    () => server.asStaff.logs.listRequestLogs({ filter: { method: "GetUser" } }),
    ({ requestLogs }) => requestLogs.some(({ requestId }) => requestId === "of-this-test"),
  );
  const token = await home.latchkey([...args, "-H", "Authorization: Bearer something-secret"]);
  assert.deepEqual([token.code, token.stdout], [2, ""]);
  assert.match(token.stderr, /--header does not take Authorization/);
  assert.ok(!token.stderr.includes("something-secret"));
});

test("--list tells services, and the methods of one", async () => {
  const services = await home.latchkey(["call", "--list"]);
  assert.deepEqual([services.code, services.stderr], [0, ""]);
  assert.ok(services.stdout.split("\n").includes("latchkey.v1.ApiKeyService"));
  const methods = await home.latchkey(["call", "--list", "api.users.UserService"]);
  assert.match(
    methods.stdout,
    /^api\.users\.UserService\/ListUsers \(api\.users\.ListUsersRequest\) stream api\.users\.UserResponse$/m,
  );
});

test("a failure is told with its code and details, and the exit status of its kind", async () => {
  const { token } = await createUserAndKey(server.asStaff, "caller");
  await Promise.all(
    (
      [
        [
          ["api.users.UserService/GetUser", '{"userId":4711}'],
          5,
          /^latchkey: not_found: user 4711 not found/,
        ],
        [["api.users.UserService/GetUser", "{}"], 2, /^latchkey: invalid_argument: /],
        [
          ["api.users.UserService/DeleteUser", "{}"],
          3,
          /unauthenticated: .*\n {2}google\.rpc\.ErrorInfo \{"reason":"MISSING"/,
        ],
        [
          ["api.users.UserService/DeleteUser", "{}"],
          4,
          /"reason":"STAFF_REQUIRED"/,
          { env: { LATCHKEY_TOKEN: token } },
        ],
        [["api.users.UserService/Nope"], 5, /has no method Nope: it has GetUser,/],
        [["no.Such/Method"], 5, /has no service no\.Such/],
        [["GetUser"], 2, /package\.Service\/Method/],
        [[], 2, /which method/],
        [["api.users.UserService/GetUser", "{"], 2, /not JSON/],
        [["api.users.UserService/GetUser", '{"colour":1}'], 2, /no api\.users\.GetUserRequest .*"colour"/],
        [["api.users.UserService/GetUser", "{}", "{}"], 2, /takes one request/],
        [["x.Y/Z", "--server", "http://127.0.0.1:1"], 6, /ECONNREFUSED/],
        [["grpc.health.v1.Health/Watch", "--timeout", "200ms"], 6, /--timeout/],
      ] as const
    ).map(async ([args, code, message, options]) => {
      const outcome = await home.latchkey(["call", ...args], options);
      assert.equal(outcome.code, code, `${args.join(" ")}: ${outcome.stderr}`);
      assert.match(outcome.stderr, message);
    }),
  );
});

test("without reflection, or without leave to use it, Latchkey's own methods can be called", async (t) => {
  const silent = await startServer({ reflection: false });
  t.after(() => silent.close());
  const own = await home.latchkey([
    "call",
    "api.users.UserService/GetUser",
    '{"userId":1}',
    "--server",
    silent.url,
  ]);
  assert.deepEqual([own.code, jsonLines(own.stdout)[0]?.username], [0, "admin"], own.stderr);
  const other = await home.latchkey(["call", "no.Such/Method", "--server", silent.url]);
  assert.equal(other.code, 5);
  assert.match(other.stderr, /has no reflection, .*LATCHKEY_REFLECTION=true/);
  const narrow = await server.asStaff.keys.createApiKey({
    userId: 2n,
    name: "narrow",
    allowedMethods: ["api.users.UserService/*"],
  });
  const env = { LATCHKEY_TOKEN: noteSecret(narrow.token) };
  const limited = await home.latchkey(["call", "api.users.UserService/GetUser", '{"userId":2}'], { env });
  assert.equal(limited.code, 0, limited.stderr);
  assert.equal(jsonLines(limited.stdout)[0]?.email, "example@localhost.localdomain");
});

test("a foreign gRPC server is called by its own reflection", async (t) => {
  const foreign = new grpc.Server();
  const packageDefinition = loadSync(protoPath);
  new HealthImplementation({ "": "SERVING" }).addToServer(foreign);
  new ReflectionService(packageDefinition).addToServer(foreign);
  const port = await new Promise<number>((resolve, reject) => {
    foreign.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  t.after(() => foreign.forceShutdown());
  const at = ["--server", `http://127.0.0.1:${port}`];
  const listed = await home.latchkey(["call", "--list", ...at]);
  assert.deepEqual([listed.code, listed.stdout], [0, "grpc.health.v1.Health\n"], listed.stderr);
  const { code, stdout, stderr } = await home.latchkey(["call", "grpc.health.v1.Health/Check", ...at]);
  assert.deepEqual([code, stdout], [0, '{"status":"SERVING"}\n'], stderr);
});
