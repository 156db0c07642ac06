/** The package as its users get it: packed, installed from a registry, in a project of their own. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import vm from "node:vm";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { build } from "esbuild";
import { createToken } from "../../src/auth/token.ts";
import { getDenial, type TokenSource, withApiKey } from "../../src/client.ts";
import { noteSecret } from "../harness/secrets.ts";
import { clientsOf } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { makeProject, type Project } from "./project.ts";

const minutes = 60_000;
let project: Project;

before(
  async () => {
    project = await makeProject();
    for (const command of project.commands.slice(0, 1)) await project.run(command);
  },
  { timeout: 8 * minutes },
);
after(() => project.remove());

describe("README's project", { timeout: 8 * minutes }, () => {
  test("has all files that README shows, and its commands generate, compile strictly and test", async () => {
    assert.deepEqual([...project.files.keys()].sort(), [
      "buf.gen.yaml",
      "buf.yaml",
      "proto/greet/v1/greet.proto",
      "src/client.ts",
      "src/greet.test.ts",
      "src/greet.ts",
      "src/own-server.ts",
      "src/server.ts",
      "tsconfig.json",
    ]);
    const [, generateAndTest = ""] = project.commands;
    const [command = "", start] = generateAndTest.trim().split("\n");
    assert.equal(start, "node src/server.ts");
    assert.match(await project.run(command), /^ℹ pass 1$/m);
    assert.deepEqual(
      globSync("src/gen/**/*", { cwd: project.directory, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ name }) => name)
        .sort(),
      ["greet_pb.d.ts", "greet_pb.js"],
    );
  });

  test("compiles strictly without skipLibCheck, and a wrong use does not compile", async () => {
    const wrong = join(project.directory, "src/wrong.ts");
    writeFileSync(
      wrong,
      'import { createServer } from "latchkey";\nawait createServer({ requireAuth: "yes" });\n',
    );
    try {
      await assert.rejects(
        project.run("npx tsc"),
        /src\/wrong\.ts\(2,\d+\): error TS2322: Type 'string' is not assignable/,
      );
    } finally {
      await project.run("rm src/wrong.ts");
    }
    assert.equal(await project.run("npx tsc --skipLibCheck false"), "");
  });

  test("lints under Buf's standard rules, Latchkey's protos included", async () => {
    assert.equal(await project.run("npx buf lint"), "");
  });

  test("its calls are guarded, counted and logged", async () => {
    const { child, printed } = await project.start("src/server.ts", { PORT: "0" });
    try {
      const url = `http://127.0.0.1:${printed.match(/listening on port (\d+)/)?.[1]}`;
      assert.equal(await project.run(`GREETER_URL=${url} node src/client.ts`), "Hello, admin!\n");

      const secretKey = noteSecret(
        readFileSync(join(project.directory, ".latchkey/secret-key"), "utf8").trim(),
      );
      const transports = (token: TokenSource): Record<string, Transport> => ({
        grpc: createGrpcTransport({ baseUrl: url, interceptors: [withApiKey(token)] }),
        connect: createConnectTransport({
          baseUrl: url,
          httpVersion: "1.1",
          interceptors: [withApiKey(token)],
        }),
      });
      const { GreetService } = await import(join(project.directory, "src/gen/greet/v1/greet_pb.js"));
      const staff = clientsOf(transports(secretKey).grpc!);
      const { apiKey, token } = await staff.keys.createApiKey({ userId: 2n, name: "of the project" });
      assert.ok(apiKey);
      noteSecret(token);

      const refusals: Record<string, [source: TokenSource, reason: string]> = {
        "none at all": [() => undefined, "MISSING"],
        "a made-up one": [noteSecret(createToken("lk")), "INVALID_API_KEY"],
      };
      for (const [protocol, transport] of Object.entries(transports(token))) {
        const greeter = createClient(GreetService, transport) as unknown as Greeter;
        assert.equal((await greeter.greet({})).text, "Hello, example!", protocol);
        await assert.rejects(greeter.setGreeting({ greeting: "Hey" }), (error) => {
          assert.equal(ConnectError.from(error).code, Code.PermissionDenied);
          return getDenial(error)?.reason === "STAFF_REQUIRED";
        });
        for (const [source, reason] of Object.values(refusals)) {
          const refused = createClient(GreetService, transports(source)[protocol]!) as unknown as Greeter;
          await assert.rejects(refused.greet({}), (error) => {
            assert.equal(ConnectError.from(error).code, Code.Unauthenticated);
            return getDenial(error)?.reason === reason;
          });
        }
      }

      const { requestLogs } = await until(
        () => staff.logs.listRequestLogs({ filter: { service: "greet.v1.GreetService" } }),
        (found) => found.requestLogs.length >= 9,
      );
      const rows = requestLogs.map((row) => `${row.protocol} ${row.method} ${row.code} ${row.userId}`);
      const perProtocol = (protocol: string) => [
        `${protocol} Greet ok 2`,
        `${protocol} SetGreeting permission_denied 2`,
        `${protocol} Greet unauthenticated 0`,
        `${protocol} Greet unauthenticated 0`,
      ];
      assert.deepEqual(rows.reverse(), [
        "grpc Greet ok 1",
        ...perProtocol("grpc"),
        ...perProtocol("connect"),
      ]);
    } finally {
      child.kill("SIGTERM");
    }
    assert.deepEqual(await once(child, "exit"), [0, null]);
  });

  test("does not start when a method declares no access, and says which", async () => {
    const proto = join(project.directory, "proto/greet/v1/greet.proto");
    const text = readFileSync(proto, "utf8");
    writeFileSync(proto, text.replace(/^ {2}option \(latchkey\.v1\.service_access\).*$/m, ""));
    try {
      await project.run("npx buf generate");
      await assert.rejects(
        project.start("src/server.ts", { PORT: "0" }),
        /ConfigError: these methods declare no access: greet\.v1\.GreetService\/Greet\. Say in their proto/,
      );
    } finally {
      writeFileSync(proto, text);
      await project.run("npx buf generate");
    }
  });

  test("guards a server of its own too", async () => {
    const port = await freePort();
    const { child } = await project.start("src/own-server.ts", { PORT: String(port) });
    try {
      const transport = (token: TokenSource) =>
        createConnectTransport({
          baseUrl: `http://127.0.0.1:${port}`,
          httpVersion: "1.1",
          interceptors: [withApiKey(token)],
        });
      const { GreetService } = await import(join(project.directory, "src/gen/greet/v1/greet_pb.js"));
      const greeterWith = (token: TokenSource) =>
        createClient(GreetService, transport(token)) as unknown as Greeter;
      const staff = clientsOf(transport({ tokenFile: join(project.directory, ".latchkey/secret-key") }));
      const { apiKey, token } = await staff.keys.createApiKey({
        userId: 2n,
        name: "of its own server",
        allowedAddresses: ["127.0.0.1/32"],
      });
      noteSecret(token);
      assert.equal((await greeterWith(token).greet({})).text, "Hello, example!");
      await assert.rejects(
        greeterWith(() => undefined).greet({}),
        (error) => getDenial(error)?.reason === "MISSING",
      );
      await assert.rejects(
        greeterWith(token).setGreeting({ greeting: "Hey" }),
        (error) => getDenial(error)?.reason === "STAFF_REQUIRED",
      );
      const counted = await until(
        async () => (await staff.keys.getApiKey({ id: apiKey?.id ?? "" })).apiKey?.requestCount,
        (count) => count === 2n,
      );
      assert.equal(counted, 2n);
    } finally {
      child.kill("SIGTERM");
    }
    assert.deepEqual(await once(child, "exit"), [0, null]);
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

interface Greeter {
  greet(request: object): Promise<{ text: string }>;
  setGreeting(request: { greeting: string }): Promise<object>;
}

describe("the client's entry", () => {
  const bundle = async (text: string) => {
    const { outputFiles, metafile } = await build({
      stdin: { contents: text, resolveDir: project.directory, loader: "ts" },
      bundle: true,
      platform: "browser",
      format: "iife",
      globalName: "bundled",
      minify: true,
      metafile: true,
      write: false,
      logLevel: "silent",
    });
    const inputs = Object.entries(Object.values(metafile.outputs)[0]!.inputs)
      .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
      .map(([path]) => path);
    return { code: outputFiles[0]!.text, inputs };
  };

  test("bundles for browsers without a line of the server's, and only what is used", async () => {
    const { inputs } = await bundle('export { withApiKey } from "latchkey/client";');
    const ours = inputs
      .filter((path) => path.includes("latchkey/dist/"))
      .map((path) => path.split("dist/")[1]);
    assert.deepEqual(ours.sort(), ["client.js", "private-url.js"]);
    const others = inputs.filter((path) => !path.includes("latchkey/dist/"));
    assert.ok(
      others.every((path) =>
        /^<stdin>$|node_modules\/(@connectrpc\/connect|@bufbuild\/protobuf)\//.test(path),
      ),
      others.join(),
    );
  });

  test("runs where there is no Node", async () => {
    const { code } = await bundle('export { withApiKey, getDenial } from "latchkey/client";');
    const page = vm.createContext({
      URL,
      Headers,
      TextEncoder,
      TextDecoder,
      location: { href: "https://app.example/" },
    });
    vm.runInContext(`${code}; globalThis.bundled = bundled;`, page);
    const token = noteSecret(createToken("lk"));
    const sent = await vm.runInContext(
      `(async (token) => {
        const req = { url: "/greet.v1.GreetService/Greet", header: new Headers() };
        await bundled.withApiKey(token)(async (sent) => sent)(req);
        return req.header.get("x-api-key");
      })`,
      page,
    )(token);
    assert.equal(sent, token);
    assert.throws(
      () => vm.runInContext('bundled.withApiKey({ tokenFile: "token" })', page),
      /only be read in Node/,
    );
  });
});

describe("the package", () => {
  test("is as publint and Are the types wrong? would have it", async () => {
    const entries = ["package.json", "client", "gen/latchkey/v1/access_pb.js"].join(" ");
    const bin = join(process.cwd(), "node_modules/.bin");
    await project.run(`${bin}/publint --strict '${project.tarball}'`);
    await project.run(
      `${bin}/attw --profile esm-only --include-entrypoints ${entries} --no-emoji '${project.tarball}'`,
    );
  });

  test("has no any in its public types", () => {
    const root = join(project.directory, "node_modules/latchkey/dist");
    const seen = new Set<string>();
    const visit = (file: string) => {
      if (seen.has(file) || file.includes("/gen/")) return;
      seen.add(file);
      const text = readFileSync(file, "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
      assert.doesNotMatch(text, /\bany\b/, file);
      for (const [, path = ""] of text.matchAll(/from "(\.[^"]+)"/g)) {
        visit(join(file, "..", path.replace(/(\.d)?\.[jt]s$/, ".d.ts")));
      }
    };
    for (const entry of ["index.d.ts", "client.d.ts"]) visit(join(root, entry));
    assert.ok(seen.size > 10, `${seen.size} files`);
    assert.ok([...seen].every((file) => !readFileSync(file, "utf8").includes("drizzle-orm")));
  });

  test("holds what a user needs and nothing of the tests", async () => {
    const names = (await project.run(`tar -tzf '${project.tarball}'`)).trim().split("\n");
    for (const name of [
      "README.md",
      "package.json",
      "proto/latchkey/v1/access.proto",
      "drizzle/meta/_journal.json",
    ]) {
      assert.ok(names.includes(`package/${name}`), name);
    }
    assert.deepEqual(
      names.filter((name) => !/^package\/(dist|drizzle|proto)\/|^package\/[\w.]+$/.test(name)),
      [],
    );
    assert.deepEqual(
      names.filter((name) => /test|\.env|secret-key$/.test(name)),
      [],
    );
  });
});
