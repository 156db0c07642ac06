import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import {
  create,
  createFileRegistry,
  type DescService,
  type FileRegistry,
  fromBinary,
  getOption,
} from "@bufbuild/protobuf";
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  type FileDescriptorSet,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import { AccessLevel, access } from "../../src/gen/latchkey/v1/access_pb.js";
import { reflectionRoutes } from "../../src/rpc/reflection.ts";

const timeout = 30_000;
const repository = fileURLToPath(new URL("../..", import.meta.url));
const versions = ["v1", "v1alpha"] as const;
type Version = (typeof versions)[number];

/** A proto2 schema with every kind of name, over a diamond of imports. */
const fixtureFiles = {
  "things.proto": `
    syntax = "proto2";
    package fixture;
    import "left.proto";
    import "right.proto";
    service Things { rpc Get(Thing) returns (Other); }
    message Thing {
      optional Left left = 1;
      optional Right right = 2;
      oneof choice { int32 number = 3; string text = 4; }
      map<string, int32> counts = 5;
      repeated group Row = 6 { optional int32 cell = 1; }
      message Inner {
        enum Color { RED = 0; }
        optional Color color = 1 [default = RED];
      }
      extensions 100 to 199;
      extend Thing { optional string nested_extension = 150; }
    }
    message Other {}
    extend Thing { optional string late_extension = 120; }
    enum Size { SMALL = 0; }`,
  "left.proto": `
    syntax = "proto3";
    package fixture;
    import public "base.proto";
    message Left { optional Base base = 1; string odd_name = 2 [json_name = "strange"]; }`,
  "right.proto": `
    edition = "2023";
    package fixture;
    import "base.proto";
    message Right { Base base = 1 [features.field_presence = LEGACY_REQUIRED]; extensions 5; }
    extend Right { string top_extension = 5; }`,
  "base.proto": `syntax = "proto3"; package fixture; message Base {}`,
};

let fixture: FileDescriptorSet;
let things: DescService;

before(async () => {
  const directory = await mkdtemp(join(tmpdir(), "reflection-test-"));
  try {
    for (const [name, text] of Object.entries(fixtureFiles)) await writeFile(join(directory, name), text);
    fixture = await compile(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
  things = createFileRegistry(fixture).getService("fixture.Things")!;
});

/** What the compiler makes of the protos, as other languages' generated code holds it. */
async function compile(input: string): Promise<FileDescriptorSet> {
  const { stdout } = await promisify(execFile)(
    join(repository, "node_modules/.bin/buf"),
    ["build", input, "--as-file-descriptor-set", "--exclude-source-info", "-o", "-"],
    { encoding: "buffer", cwd: tmpdir() },
  );
  return fromBinary(FileDescriptorSetSchema, stdout);
}

/** A server with the user service; answers with its port. */
async function start(t: TestContext, services: readonly DescService[] = [UserService]): Promise<number> {
  const server = createServer(
    connectNodeAdapter({
      routes(router) {
        router.service(UserService, { getUser: ({ userId }) => ({ id: userId, username: "alice" }) });
        reflectionRoutes(services)(router);
      },
    }),
  );
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

interface Response {
  validHost: string;
  originalRequest: object;
  messageResponse: string;
  fileDescriptorResponse?: { fileDescriptorProto: Buffer[] };
  allExtensionNumbersResponse?: { baseTypeName: string; extensionNumber: number[] };
  listServicesResponse?: { service: { name: string }[] };
  errorResponse?: { errorCode: number; errorMessage: string };
}

/** Sends the requests on one stream of a grpc-js client, which must end well; answers with the responses. */
async function ask(port: number, version: Version, ...requests: object[]): Promise<Response[]> {
  const protos = join(repository, "node_modules/@grpc/reflection/build/proto");
  const name = `grpc.reflection.${version}.ServerReflection`;
  const contract = loadSync(`grpc/reflection/${version}/reflection.proto`, {
    includeDirs: [protos],
    oneofs: true,
  })[name] as grpc.ServiceDefinition;
  const method = contract.ServerReflectionInfo!;
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  try {
    const stream = client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
    );
    for (const request of requests) stream.write(request);
    stream.end();
    const responses: Response[] = [];
    for await (const response of stream) responses.push(response as Response);
    return responses;
  } finally {
    client.close();
  }
}

function parsed(response: Response | undefined): FileDescriptorProto[] {
  const files = response?.fileDescriptorResponse?.fileDescriptorProto ?? [];
  return files.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
}

const fileNames = (response: Response | undefined) => parsed(response).map((file) => file.name);

function rebuild(response: Response | undefined): FileRegistry {
  return createFileRegistry(
    create(FileDescriptorSetSchema, {
      // A registry wants what is imported first; a response begins with what was asked for.
      file: parsed(response).reverse(),
    }),
  );
}

async function bufCurl(...args: string[]): Promise<string> {
  const buf = join(repository, "node_modules/.bin/buf");
  const { stdout } = await promisify(execFile)(buf, ["curl", ...args], { cwd: tmpdir() });
  return stdout.trim();
}

for (const version of versions) {
  const client = ["--protocol", "grpc", "--http2-prior-knowledge", "--reflect-protocol", `grpc-${version}`];

  test(`buf curl lists all methods over ${version}`, { timeout }, async (t) => {
    const port = await start(t);
    const methods = await bufCurl(...client, "--list-methods", `http://127.0.0.1:${port}`);
    assert.deepEqual(methods.split("\n").sort(), [
      "api.users.UserService/CreateUser",
      "api.users.UserService/DeleteUser",
      "api.users.UserService/GetUser",
      "api.users.UserService/ListUsers",
      "api.users.UserService/UpdateProfile",
      "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
      "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ]);
  });

  test(`buf curl calls a method that it knows from ${version} only`, { timeout }, async (t) => {
    const port = await start(t);
    const url = `http://127.0.0.1:${port}/api.users.UserService/GetUser`;
    const answer = await bufCurl(...client, "--data", '{"userId":"42"}', url);
    assert.deepEqual(JSON.parse(answer), { id: "42", username: "alice" });
  });

  test(`${version} lists the mounted services and its own, sorted and each once`, { timeout }, async (t) => {
    const port = await start(t, [things, UserService, things]);
    const [response] = await ask(port, version, { listServices: "" });
    assert.deepEqual(
      response?.listServicesResponse?.service.map(({ name }) => name),
      [
        "api.users.UserService",
        "fixture.Things",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
      ],
    );
  });

  test(`${version} serves a file by name, with all that it imports, each once`, { timeout }, async (t) => {
    const port = await start(t, [things]);
    const [response] = await ask(port, version, { fileByFilename: "things.proto" });
    assert.deepEqual(fileNames(response), ["things.proto", "left.proto", "right.proto", "base.proto"]);
  });

  test(`${version} serves its own schema`, { timeout }, async (t) => {
    const port = await start(t, []);
    const symbol = `grpc.reflection.${version}.ServerReflection`;
    const [response] = await ask(port, version, { fileContainingSymbol: symbol });
    assert.equal(rebuild(response).getService(symbol)?.methods[0]?.name, "ServerReflectionInfo");
  });

  test(`${version} finds the file of every kind of name`, { timeout }, async (t) => {
    const port = await start(t, [things]);
    const symbols = {
      "fixture.Things": "things.proto",
      "fixture.Things.Get": "things.proto",
      "fixture.Thing": "things.proto",
      "fixture.Thing.number": "things.proto",
      "fixture.Thing.choice": "things.proto",
      "fixture.Thing.CountsEntry": "things.proto",
      "fixture.Thing.CountsEntry.key": "things.proto",
      "fixture.Thing.Row.cell": "things.proto",
      "fixture.Thing.Inner": "things.proto",
      "fixture.Thing.Inner.Color": "things.proto",
      "fixture.Thing.Inner.RED": "things.proto",
      "fixture.Thing.Inner.color": "things.proto",
      "fixture.Thing.nested_extension": "things.proto",
      "fixture.Size": "things.proto",
      "fixture.SMALL": "things.proto",
      "fixture.top_extension": "right.proto",
      "fixture.Left._base": "left.proto",
      "fixture.Base": "base.proto",
    };
    const names = Object.keys(symbols);
    const responses = await ask(port, version, ...names.map((name) => ({ fileContainingSymbol: name })));
    const found = responses.map((response, i) => [names[i], fileNames(response)[0]]);
    assert.deepEqual(Object.fromEntries(found), symbols);
  });

  test(`${version} finds the file of an extension by number`, { timeout }, async (t) => {
    const port = await start(t, [things, UserService]);
    const responses = await ask(
      port,
      version,
      { fileContainingExtension: { containingType: "fixture.Thing", extensionNumber: 150 } },
      { fileContainingExtension: { containingType: "fixture.Right", extensionNumber: 5 } },
      {
        fileContainingExtension: { containingType: "google.protobuf.MethodOptions", extensionNumber: 51827 },
      },
    );
    assert.deepEqual(
      responses.map((response) => fileNames(response)[0]),
      ["things.proto", "right.proto", "latchkey/v1/access.proto"],
    );
  });

  test(`${version} tells the extension numbers of a message in order, none included`, {
    timeout,
  }, async (t) => {
    const port = await start(t, [things, UserService]);
    const types = ["fixture.Thing", "google.protobuf.ServiceOptions", "fixture.Other"];
    const responses = await ask(port, version, ...types.map((each) => ({ allExtensionNumbersOfType: each })));
    assert.deepEqual(
      responses.map((response) => response.allExtensionNumbersResponse),
      [
        { baseTypeName: "fixture.Thing", extensionNumber: [120, 150] },
        { baseTypeName: "google.protobuf.ServiceOptions", extensionNumber: [51827] },
        { baseTypeName: "fixture.Other" },
      ],
    );
  });

  test(`${version} answers each bad request with its error and goes on with the stream`, {
    timeout,
  }, async (t) => {
    const port = await start(t, [things]);
    const bad = [
      { fileByFilename: "none.proto" },
      { fileContainingSymbol: "fixture.None" },
      { fileContainingSymbol: "fixture" },
      { fileContainingSymbol: "fixture.Size.SMALL" },
      { fileContainingSymbol: "" },
      { fileContainingSymbol: "x".repeat(1_000_000) },
      { fileContainingExtension: { containingType: "fixture.Thing", extensionNumber: 151 } },
      { fileContainingExtension: { containingType: "fixture.None", extensionNumber: -1 } },
      { allExtensionNumbersOfType: "fixture.None" },
      { allExtensionNumbersOfType: "fixture.Size" },
    ];
    const asked = bad.map((request) => ({ host: "example.org", ...request }));
    const responses = await ask(port, version, ...asked, {}, { fileByFilename: "base.proto" });
    for (const [i, request] of asked.entries()) {
      const { errorResponse, originalRequest, validHost } = responses[i]!;
      assert.equal(errorResponse?.errorCode, grpc.status.NOT_FOUND);
      assert.ok(errorResponse.errorMessage.length < 300);
      assert.equal(validHost, "example.org");
      const [kind] = Object.keys(bad[i]!);
      assert.deepEqual({ ...originalRequest }, { ...request, messageRequest: kind });
    }
    assert.match(responses[0]!.errorResponse!.errorMessage, /^file "none.proto" not found$/);
    assert.equal(responses[asked.length]?.errorResponse?.errorCode, grpc.status.INVALID_ARGUMENT);
    assert.deepEqual(fileNames(responses[asked.length + 1]), ["base.proto"]);
  });

  test(`${version} sends what is imported once a stream, what is asked for each time`, {
    timeout,
  }, async (t) => {
    const port = await start(t, [things]);
    const responses = await ask(
      port,
      version,
      { fileByFilename: "left.proto" },
      { fileByFilename: "right.proto" },
      { fileByFilename: "right.proto" },
      { fileByFilename: "things.proto" },
      { fileContainingSymbol: "fixture.Base" },
    );
    assert.deepEqual(responses.map(fileNames), [
      ["left.proto", "base.proto"],
      ["right.proto"],
      ["right.proto"],
      ["things.proto"],
      ["base.proto"],
    ]);
    const [again] = await ask(port, version, { fileByFilename: "right.proto" });
    assert.deepEqual(fileNames(again), ["right.proto", "base.proto"]);
  });
}

test("the access that a method declares can be read from what is served", { timeout }, async (t) => {
  const port = await start(t);
  const [response] = await ask(port, "v1", { fileContainingSymbol: "api.users.UserService.DeleteUser" });
  const registry = rebuild(response);
  const method = registry
    .getService("api.users.UserService")
    ?.methods.find(({ name }) => name === "DeleteUser");
  assert.equal(getOption(method!, access).level, AccessLevel.STAFF);
  const extension = registry.getExtension("latchkey.v1.access");
  assert.equal(extension?.extendee.typeName, "google.protobuf.MethodOptions");
});

test("the served files are what the compiler made, JSON names and options included", {
  timeout,
}, async (t) => {
  const port = await start(t, [UserService, things]);
  const compiled = [...(await compile(join(repository, "proto"))).file, ...fixture.file];
  const own = ["api/users/user_service.proto", "latchkey/v1/access.proto", ...Object.keys(fixtureFiles)];
  for (const name of own) {
    const [response] = await ask(port, "v1", { fileByFilename: name });
    assert.deepEqual(
      parsed(response)[0],
      compiled.find((file) => file.name === name),
      name,
    );
  }
});

test("a file of which two versions are imported is served in the first", { timeout }, async (t) => {
  const file = (name: string, ...dependency: string[]) =>
    create(FileDescriptorProtoSchema, { name, dependency, service: [{ name: name.replace(".proto", "") }] });
  const registry = (...files: FileDescriptorProto[]) =>
    createFileRegistry(create(FileDescriptorSetSchema, { file: files }));
  const first = registry(file("shared.proto"), file("First.proto", "shared.proto"));
  const second = registry(
    file("more.proto"),
    file("shared.proto", "more.proto"),
    file("Second.proto", "shared.proto"),
  );
  const port = await start(t, [first.getService("First")!, second.getService("Second")!]);
  const [response] = await ask(port, "v1", { fileContainingSymbol: "Second" });
  assert.deepEqual(fileNames(response), ["Second.proto", "shared.proto"]);
});

test("two services from different files of one name are refused, and named", () => {
  const other = create(FileDescriptorProtoSchema, {
    name: "things.proto",
    package: "other",
    service: [{ name: "Things" }],
  });
  const clash = createFileRegistry(other, () => undefined).getService("other.Things")!;
  assert.throws(() => reflectionRoutes([things, clash]), /other\.Things.*things\.proto/);
});
