/** The main job from Python's grpcio, with stubs generated from our proto files. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { globSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { findPython } from "../harness/python.ts";
import { noteSecret } from "../harness/secrets.ts";
import { secretKey, startServer, type TestServer } from "../harness/server.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

interface Failure {
  code: string;
  message: string;
  /** google.rpc.Status in base64. */
  details: string;
  challenge: string;
}

interface Seen {
  user_agent_version: string;
  user_id: number;
  token: string;
  email: string;
  email_by_bearer: string;
  email_anonymous: string;
  bio: string;
  bio_by_gzip: string;
  listed: number;
  request_count: number;
  request_logs: Record<string, unknown>[];
  failures: Record<string, Failure | null>;
  access: Record<string, string>;
}

let latchkey: TestServer;
let directory: string;
let seen: Seen;

before(async () => {
  const python = await findPython("grpc", "grpc_tools");
  directory = await mkdtemp(join(tmpdir(), "latchkey-python-"));
  const protos = globSync("**/*.proto", { cwd: join(repository, "proto") });
  await run(
    python,
    [
      "-m",
      "grpc_tools.protoc",
      "-I.",
      `--python_out=${directory}`,
      `--grpc_python_out=${directory}`,
      ...protos,
    ],
    { cwd: join(repository, "proto") },
  );
  latchkey = await startServer();
  await latchkey.sql`
    INSERT INTO users (username, username_key, bio) SELECT 'reader' || n, 'reader' || n, repeat('b', 2000) FROM generate_series(1, 1000) AS n`;
  const script = fileURLToPath(new URL("main_job.py", import.meta.url));
  const { stdout } = await run(python, [script, directory, `127.0.0.1:${latchkey.port}`, secretKey]);
  seen = JSON.parse(stdout) as Seen;
  noteSecret(seen.token);
});
after(async () => {
  await latchkey?.close();
  if (directory !== undefined) await rm(directory, { recursive: true });
});

test("a key made from Python signs in its user, in its own header and as Bearer", () => {
  assert.equal(seen.email, "guido@example.com");
  assert.equal(seen.email_by_bearer, "guido@example.com");
  assert.equal(seen.email_anonymous, "");
});

test("unary calls, compressed ones and streams are answered", () => {
  assert.equal(seen.bio, "été — 夏");
  assert.equal(seen.bio_by_gzip, "z".repeat(2000));
  assert.equal(seen.listed, 50);
});

test("each call with the key is counted and logged, once, with its true code", () => {
  assert.equal(seen.request_count, 9);
  const ok = { code: "ok" };
  assert.deepEqual(
    seen.request_logs,
    [
      { method: "GetUser", ...ok },
      { method: "GetUser", ...ok },
      { method: "UpdateProfile", ...ok },
      { method: "UpdateProfile", ...ok },
      { method: "ListUsers", ...ok },
      { method: "ListUsers", code: "canceled" },
      { method: "DeleteUser", code: "permission_denied" },
      { method: "GetUser", code: "not_found" },
      { method: "UpdateProfile", code: "resource_exhausted" },
    ].map((row) => ({
      ...row,
      protocol: "grpc",
      user_id: seen.user_id,
      peer: "127.0.0.1",
      agent: seen.request_logs[0]?.agent,
      positive: row.method !== "DeleteUser",
    })),
  );
  assert.match(String(seen.request_logs[0]?.agent), new RegExp(`^grpc-python/${seen.user_agent_version}`));
});

for (const [name, code, message] of [
  ["canceled", "CANCELLED", /./],
  ["staff", "PERMISSION_DENIED", /^this method needs a staff user's API key$/],
  ["not_found", "NOT_FOUND", /^user 4611686018427387904 not found$/],
  ["too_large", "RESOURCE_EXHAUSTED", /larger than/],
  ["missing", "UNAUTHENTICATED", /^this method needs an API key: send its token in the x-api-key header/],
  ["unknown", "UNAUTHENTICATED", /^invalid API key$/],
  ["revoked", "UNAUTHENTICATED", /^this API key was revoked at \d{4}-/],
  ["no_method", "UNIMPLEMENTED", /^there is no method \/api\.users\.UserService\/Absent: check/],
] as const) {
  test(`Python is told ${code} and what to do (${name})`, () => {
    assert.equal(seen.failures[name]?.code, code);
    assert.match(seen.failures[name]?.message ?? "", message);
  });
}

for (const [name, reason, challenge] of [
  ["missing", "MISSING", "Bearer"],
  ["unknown", "INVALID_API_KEY", 'Bearer error="invalid_token"'],
  ["revoked", "REVOKED", 'Bearer error="invalid_token"'],
  ["staff", "STAFF_REQUIRED", ""],
] as const) {
  test(`Python reads the reason ${reason} from the error's details`, () => {
    const { details = "", challenge: told } = seen.failures[name] ?? {};
    const info = errorInfo(Buffer.from(details, "base64"));
    assert.deepEqual([info?.reason, info?.domain], [reason, "latchkey"]);
    assert.equal(told, challenge);
  });
}

/** The ErrorInfo among the details (field 3) of a google.rpc.Status. */
function errorInfo(status: Uint8Array) {
  const reader = new BinaryReader(status);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field !== 3) {
      reader.skip(wireType);
      continue;
    }
    const { typeUrl, value } = fromBinary(AnySchema, reader.bytes());
    if (typeUrl === "type.googleapis.com/google.rpc.ErrorInfo") return fromBinary(ErrorInfoSchema, value);
  }
  return undefined;
}

test("Python reads from the descriptors who may call each method", () => {
  assert.deepEqual(seen.access, {
    GetUser: "ACCESS_LEVEL_OPTIONAL",
    UpdateProfile: "ACCESS_LEVEL_AUTHENTICATED",
    CreateUser: "ACCESS_LEVEL_STAFF",
    DeleteUser: "ACCESS_LEVEL_STAFF",
    ListUsers: "ACCESS_LEVEL_OPTIONAL",
  });
});
