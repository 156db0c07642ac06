/** What a handler passes on from elsewhere does not break the connection that it is answered on, nor end the process. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import type { TestServer } from "../harness/server.ts";
import { collect, fixtureClient, protocols, startFixture } from "./protocols.ts";

const fields = {
  connection: "close",
  "http2-settings": "AAMAAABk",
  "keep-alive": "timeout=5",
  "proxy-connection": "keep-alive",
  te: "gzip",
  "transfer-encoding": "chunked",
  upgrade: "h2c",
};
const failure = () => new ConnectError("passed on", Code.Aborted, { ...fields, "x-kept": "1" });

function setAll({ responseHeader, responseTrailer }: HandlerContext) {
  for (const [name, value] of Object.entries({ ...fields, "x-kept": "1" })) {
    responseHeader.set(name, value);
    responseTrailer.set(name, value);
  }
}

let latchkey: TestServer;
before(async () => {
  latchkey = await startFixture({
    unary(request, context) {
      if (request.value.length > 0) throw failure();
      setAll(context);
      return {};
    },
    async *serverStream(request, context) {
      setAll(context);
      yield {};
      if (request.value.length > 0) throw failure();
    },
  });
});
after(() => latchkey.close());

/** Node sets the others itself, over HTTP/1.1. */
const never = ["http2-settings", "proxy-connection", "te", "upgrade"];
const isKept = (all: Headers) => all.get("x-kept") === "1";
const found = (all: Headers) => never.filter((name) => all.has(name));

for (const protocol of protocols) {
  // Of the others, trailers are in the body, where these are names like any other.
  const hasTrailers = protocol.name === "gRPC";
  for (const kind of ["unary", "serverStream"] as const) {
    test(`over ${protocol.name}, fields of the connection that a ${kind} handler sets go no further`, async () => {
      const client = fixtureClient(latchkey, protocol);
      let header = new Headers();
      let trailer = new Headers();
      const options = {
        onHeader(all: Headers) {
          header = all;
        },
        onTrailer(all: Headers) {
          trailer = all;
        },
      };
      const call = (value: Uint8Array) =>
        kind === "unary"
          ? client.unary({ value }, options)
          : collect(client.serverStream({ value }, options));
      await call(new Uint8Array());
      assert.ok(isKept(header) && isKept(trailer));
      assert.deepEqual(found(header), []);
      if (hasTrailers) assert.deepEqual(found(trailer), []);
      const error = await call(new Uint8Array(1)).then(
        () => assert.fail("it was answered"),
        ConnectError.from,
      );
      assert.deepEqual([error.code, error.rawMessage], [Code.Aborted, "passed on"]);
      if (hasTrailers) assert.deepEqual(found(error.metadata), []);
    });
  }
}
