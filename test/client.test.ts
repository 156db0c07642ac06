/** What a client sends with `withApiKey`, to whom, and what it reads from a refusal. */
import assert from "node:assert/strict";
import fs, { mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, mock, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import type { ToldReason } from "../src/auth/denial.ts";
import { createToken } from "../src/auth/token.ts";
import {
  type DenialReason,
  getDenial,
  type TokenSource,
  type WithApiKeyOptions,
  withApiKey,
} from "../src/client.ts";
import { UserResponseSchema, UserService } from "../src/gen/api/users/user_service_pb.js";
import { ErrorInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { noteSecret } from "./harness/secrets.ts";
import { createUserAndKey, startServer, type TestServer } from "./harness/server.ts";
import { until } from "./harness/until.ts";

/** The texts that a type names, without the string that stands for any other. */
type Named<T> = T extends string ? (string extends T ? never : T) : never;
// Does not compile once the client knows other reasons than the server tells.
true satisfies [Named<DenialReason>, ToldReason] extends [ToldReason, Named<DenialReason>] ? true : false;

const token = () => noteSecret(createToken("lk"));

/** A transport that sends nothing: it keeps the headers of each call. */
function recordingTransport(
  baseUrl: string,
  source: TokenSource,
  options?: WithApiKeyOptions,
): { transport: Transport; sent: Headers[] } {
  const sent: Headers[] = [];
  const transport = createConnectTransport({
    baseUrl,
    httpVersion: "1.1",
    interceptors: [
      withApiKey(source, options),
      () => async (req) => {
        sent.push(req.header);
        return {
          stream: false,
          service: req.service,
          method: req.method as never,
          header: new Headers(),
          trailer: new Headers(),
          message: create(UserResponseSchema),
        };
      },
    ],
  });
  return { transport, sent };
}

async function send(transport: Transport, headers: Record<string, string> = {}): Promise<void> {
  await createClient(UserService, transport).getUser({ userId: 1n }, { headers });
}

/** What one call sends in a header. */
async function sentIn(header: string, source: TokenSource, options?: WithApiKeyOptions) {
  const { transport, sent } = recordingTransport("https://keys.example.com", source, options);
  await send(transport);
  return sent[0]!.get(header);
}

function failedPrecondition(message: RegExp, ...secrets: string[]) {
  return (error: unknown) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(Code[error.code], "FailedPrecondition");
    assert.match(error.message, message);
    for (const secret of secrets) assert.ok(!error.message.includes(secret), "the token is in the error");
    return true;
  };
}

describe("the token", () => {
  test("goes in x-api-key, or in the header that is asked for, as Bearer in authorization", async () => {
    const mine = token();
    assert.equal(await sentIn("x-api-key", mine), mine);
    assert.equal(await sentIn("x-key", mine, { header: "x-key" }), mine);
    for (const header of ["authorization", "Authorization"]) {
      assert.equal(await sentIn("authorization", mine, { header }), `Bearer ${mine}`);
      assert.equal(await sentIn("x-api-key", mine, { header }), null);
    }
  });

  test("is asked of a function before each call, which may give none", async () => {
    const mine = [token(), undefined, token()];
    let asked = 0;
    const { transport, sent } = recordingTransport("https://keys.example.com", async () => mine[asked++]);
    for (const _ of mine) await send(transport);
    assert.deepEqual(
      sent.map((headers) => headers.get("x-api-key")),
      mine.map((each) => each ?? null),
    );
  });

  test("is left as it is where the call sets the header itself", async () => {
    const { transport, sent } = recordingTransport("https://keys.example.com", token());
    await send(transport, { "X-Api-Key": "its own" });
    assert.equal(sent[0]!.get("x-api-key"), "its own");
  });

  test("is refused, and not told, where it can be none", async () => {
    for (const bad of ["", " ", "lk_two words", "lk_newline\n", "lk_ümlaut", "lk_\u0000"]) {
      assert.throws(() => withApiKey(bad), { name: "TypeError", message: /^the API key is none(?!.*lk_)/s });
      const { transport, sent } = recordingTransport("https://keys.example.com", () => bad);
      await assert.rejects(send(transport), failedPrecondition(/what the function gave/, "lk_"));
      assert.equal(sent.length, 0);
    }
    const { transport } = recordingTransport("https://keys.example.com", (() => 7) as never);
    await assert.rejects(send(transport), failedPrecondition(/what the function gave/));
  });
});

describe("over plain HTTP", () => {
  const here = ["localhost:1", "LOCALHOST", "127.0.0.1:1", "127.1", "127.255.0.3", "[::1]:1"];
  const elsewhere = [
    "keys.example.com",
    "10.0.0.1",
    "128.0.0.1",
    "[::2]",
    "[fe80::1]",
    "0.0.0.0",
    "localhost.example.com",
    "keys.localhost",
    "127.0.0.1.example.com",
    "notlocalhost",
    "user:pass@keys.example.com",
    "localhost@keys.example.com",
  ];

  for (const host of here) {
    test(`the token goes to ${host}`, async () => {
      const { transport, sent } = recordingTransport(`http://${host}`, token());
      await send(transport);
      assert.ok(sent[0]!.has("x-api-key"));
    });
  }

  for (const host of elsewhere) {
    test(`the token does not go to ${host}, unless told to; over TLS it does`, async () => {
      const mine = token();
      for (const source of [mine, () => mine]) {
        const { transport, sent } = recordingTransport(`http://${host}`, source);
        await assert.rejects(send(transport), failedPrecondition(/over plain HTTP: use https/, mine, "pass"));
        assert.equal(sent.length, 0);
      }
      const told = recordingTransport(`http://${host}`, mine, { allowCleartext: true });
      await send(told.transport);
      const overTls = recordingTransport(`https://${host}`, mine);
      await send(overTls.transport);
      for (const { sent } of [told, overTls]) assert.equal(sent[0]!.get("x-api-key"), mine);
    });
  }

  test("a call without a token goes anywhere", async () => {
    const { transport, sent } = recordingTransport("http://keys.example.com", () => undefined);
    await send(transport);
    assert.equal(sent.length, 1);
  });

  test("in a page, a relative URL is the page's: its token goes over TLS alone", async () => {
    const page = globalThis as { location?: { href: string } };
    try {
      page.location = { href: "https://app.example.com/keys" };
      const safe = recordingTransport("/api", token());
      await send(safe.transport);
      assert.equal(safe.sent.length, 1);
      page.location = { href: "http://app.example.com/keys" };
      await assert.rejects(
        send(recordingTransport("/api", token()).transport),
        failedPrecondition(/not sent to app\.example\.com/),
      );
    } finally {
      delete page.location;
    }
  });
});

describe("a token file", () => {
  let directory: string;
  let file: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "latchkey-token-"));
  });
  beforeEach(() => {
    file = join(directory, `token-${Math.random()}`);
  });
  after(() => rmSync(directory, { recursive: true }));

  async function sentOf(transport: Transport, sent: Headers[]): Promise<string | null> {
    await send(transport);
    return sent.at(-1)!.get("x-api-key");
  }

  test("is read before the first call, and again at the next one after it has changed, however it was", async () => {
    const { transport, sent } = recordingTransport("https://keys.example.com", { tokenFile: file });
    // All of one length, one right after the other: neither size nor a coarse clock tells them apart.
    const ways: Record<string, (text: string) => void> = {
      "written anew": (text) => writeFileSync(file, text),
      "written in place": (text) => writeFileSync(file, text, { flag: "r+" }),
      "another moved over it": (text) => {
        writeFileSync(`${file}.new`, text);
        renameSync(`${file}.new`, file);
      },
      "a link turned elsewhere": (text) => {
        writeFileSync(`${file}.${text}`, text);
        unlinkSync(file);
        symlinkSync(`${file}.${text}`, file);
      },
    };
    for (const [way, write] of Object.entries(ways)) {
      for (let n = 0; n < 20; n++) {
        const mine = token();
        write(mine);
        assert.equal(await sentOf(transport, sent), mine, `${way}, ${n}`);
      }
    }
  });

  test("is read again although it has the size and the times that it had", async () => {
    const { transport, sent } = recordingTransport("https://keys.example.com", { tokenFile: file });
    const stat = fs.promises.stat;
    // As on a file system whose clock ticks every 2 s.
    const coarse = mock.method(fs.promises, "stat", async (path: string, options: { bigint: true }) => {
      const found = await stat(path, options);
      const round = (ms: bigint) => ms - (ms % 2000n);
      const ctimeMs = round(found.ctimeMs);
      return Object.assign(found, { ctimeMs, ctimeNs: ctimeMs * 1000_000n });
    });
    for (let n = 0; n < 20; n++) {
      const mine = token();
      writeFileSync(file, mine);
      assert.equal(await sentOf(transport, sent), mine);
    }
    assert.ok(coarse.mock.callCount() >= 20);
    coarse.mock.restore();
  });

  test("is read once, and again when its time is another, where it has long been as it is", async () => {
    const { transport, sent } = recordingTransport("https://keys.example.com", { tokenFile: file });
    const mine = token();
    writeFileSync(file, mine);
    const stat = fs.promises.stat;
    const aged = mock.method(fs.promises, "stat", async (path: string, options: { bigint: true }) =>
      Object.assign(await stat(path, options), { ctimeMs: 0n }),
    );
    const reads = mock.method(fs.promises, "readFile");
    for (let n = 0; n < 5; n++) assert.equal(await sentOf(transport, sent), mine);
    assert.equal(reads.mock.callCount(), 1);
    const [{ ctimeMs: firstMs }, other] = [fs.statSync(file), token()];
    while (fs.statSync(file).ctimeMs === firstMs) writeFileSync(file, other);
    assert.equal(await sentOf(transport, sent), other);
    for (const mocked of [aged, reads]) mocked.mock.restore();
  });

  test("may end with a line break", async () => {
    const mine = token();
    writeFileSync(file, `${mine}\r\n`);
    const { transport, sent } = recordingTransport("https://keys.example.com", { tokenFile: file });
    assert.equal(await sentOf(transport, sent), mine);
  });

  test("that is gone or empty for a while leaves the last token", async () => {
    const [before, after] = [token(), token()];
    writeFileSync(file, before);
    const { transport, sent } = recordingTransport("https://keys.example.com", { tokenFile: file });
    assert.equal(await sentOf(transport, sent), before);
    writeFileSync(file, "");
    assert.equal(await sentOf(transport, sent), before);
    unlinkSync(file);
    assert.equal(await sentOf(transport, sent), before);
    writeFileSync(file, after);
    assert.equal(await sentOf(transport, sent), after);
  });

  test("that is missing, empty or holds no token fails the call, which names the file and not what is in it", async () => {
    const { transport, sent } = recordingTransport("https://keys.example.com", { tokenFile: file });
    await assert.rejects(send(transport), failedPrecondition(/token-0\.\d+ cannot be read \(ENOENT\)/));
    for (const text of ["", " \n", "lk_one\nlk_two\n", "lk_two words"]) {
      writeFileSync(file, text);
      await assert.rejects(send(transport), failedPrecondition(/token-0\.\d+ is none/, "lk_"));
    }
    assert.equal(sent.length, 0);
    writeFileSync(file, token());
    await send(transport);
  });

  test("cannot be read where there is no Node, which is said at once", () => {
    const { getBuiltinModule } = process;
    try {
      Object.assign(process, { getBuiltinModule: undefined });
      assert.throws(() => withApiKey({ tokenFile: file }), {
        name: "TypeError",
        message: /only be read in Node/,
      });
    } finally {
      Object.assign(process, { getBuiltinModule });
    }
  });
});

describe("against a server", () => {
  let latchkey: TestServer;
  before(async () => {
    latchkey = await startServer();
  });
  after(() => latchkey.close());

  const protocols: Record<string, (options: { baseUrl: string; interceptors: Interceptor[] }) => Transport> =
    {
      gRPC: createGrpcTransport,
      "gRPC-Web": (options) => createGrpcWebTransport({ ...options, httpVersion: "1.1" }),
      Connect: (options) => createConnectTransport({ ...options, httpVersion: "1.1" }),
    };

  for (const [name, createTransport] of Object.entries(protocols)) {
    test(`${name}: the key's user is let in, and a refusal tells its reason, and since when`, async () => {
      const { apiKeyId, token: mine } = await createUserAndKey(latchkey.asStaff, name.toLowerCase());
      const call = (source: TokenSource, options?: WithApiKeyOptions) => {
        const interceptors = [withApiKey(source, options)];
        const users = createClient(UserService, createTransport({ baseUrl: latchkey.url, interceptors }));
        return users.updateProfile({ bio: "sent with withApiKey" }).then(
          () => "let in",
          (error: unknown) => getDenial(error),
        );
      };
      assert.equal(await call(mine), "let in");
      assert.equal(await call(mine, { header: "authorization" }), "let in");
      assert.deepEqual(await call(() => undefined), { reason: "MISSING", since: undefined });
      assert.deepEqual(await call(token()), { reason: "INVALID_API_KEY", since: undefined });
      const { apiKey } = await latchkey.asStaff.keys.revokeApiKey({ id: apiKeyId });
      const denial = await until(
        () => call(mine),
        (answer) => answer !== "let in",
      );
      assert.deepEqual(denial, { reason: "REVOKED", since: timestampDate(apiKey!.revokedAt!) });
    });
  }

  test("what is no refusal of Latchkey's has no denial", async () => {
    const [notFound] = await Promise.allSettled([latchkey.asStaff.users.getUser({ userId: 404n })]);
    assert.equal(notFound.status, "rejected");
    const other = { desc: ErrorInfoSchema, value: { reason: "MISSING", domain: "example.com" } };
    for (const error of [
      notFound.reason,
      new ConnectError("theirs", Code.Unauthenticated, undefined, [other]),
      new Error("not of an RPC"),
      undefined,
    ]) {
      assert.equal(getDenial(error), undefined);
    }
  });
});
