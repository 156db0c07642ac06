/** What hooks of Fastify's make of a request's headers is what counts, over every protocol and for each request anew. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { ApiKeyService } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { createUserAndKey, startServer } from "../harness/server.ts";

const transports = {
  "Connect over HTTP/1.1": (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: "1.1" }),
  "Connect over HTTP/2": (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: "2" }),
  gRPC: (baseUrl: string) => createGrpcTransport({ baseUrl }),
};

for (const leanUnary of [true, false]) {
  test(`a hook names and withdraws the key of a call${leanUnary ? "" : ", without the lean path"}`, async (t) => {
    let token: string | undefined;
    const latchkey = await startServer(
      { leanUnary },
      {
        plugins(app) {
          app.addHook("onRequest", async ({ raw }) => {
            if (raw.headers["x-tenant"] !== undefined) raw.headers["x-api-key"] = token;
          });
        },
      },
    );
    t.after(() => latchkey.close());
    const ada = await createUserAndKey(latchkey.asStaff, "ada");
    for (const [name, transport] of Object.entries(transports)) {
      // On one connection, with the same headers each time.
      const keys = createClient(ApiKeyService, transport(latchkey.url));
      const call = () => keys.getApiKey({ id: ada.apiKeyId }, { headers: { "x-tenant": "a" } });
      token = ada.token;
      for (let n = 0; n < 3; n++) assert.equal((await call()).apiKey?.username, "ada", name);
      token = undefined;
      await assert.rejects(call(), { code: Code.Unauthenticated }, `${name}, withdrawn`);
    }
  });
}
