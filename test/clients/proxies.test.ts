/** A service in Python behind each proxy that README configures, called by clients of theirs. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { after, before, describe, test } from "node:test";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import grpc from "@grpc/grpc-js";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { proxiedKeys } from "../auth/proxied.ts";
import { until } from "../harness/until.ts";
import { createKeyWorld, type KeyWorld, type MadeKey } from "../keys/world.ts";
import {
  type GuardedServer,
  type ProxyName,
  type RunningProxy,
  startGuardedServer,
  startProxy,
} from "./proxies.ts";

const service = "billing.v1.InvoiceService";

let guarded: GuardedServer;
let world: KeyWorld;
let gateway: MadeKey;
let ada: MadeKey;
let payer: MadeKey;
before(async () => {
  guarded = await startGuardedServer();
  world = await createKeyWorld({
    forwardAuthPath: "/auth",
    publicMethods: ["billing.v1.StatusService/Get"],
  });
  ({ gateway, ada, payer } = await proxiedKeys(world));
});
after(async () => {
  await world?.close();
  await guarded?.stop();
});

interface Seen {
  readonly called: string;
  readonly headers: [string, string][];
}

/** What the service saw, or the error that the caller was told. */
type Outcome =
  | { seen: Seen[] }
  | { code: number; message: string; reason: string | undefined; challenge: unknown };

/** Calls as any gRPC client does. */
function call(
  client: grpc.Client,
  method: string,
  sent: Record<string, string | string[]> = {},
): Promise<Outcome> {
  const metadata = new grpc.Metadata();
  for (const [name, values] of Object.entries(sent))
    for (const value of [values].flat()) metadata.add(name, value);
  const read = (bytes: Buffer) => JSON.parse(bytes.toString()) as Seen;
  const stream = client.makeServerStreamRequest(
    method,
    (text: string) => Buffer.from(text),
    read,
    "",
    metadata,
    {
      deadline: Date.now() + 20_000,
    },
  );
  return new Promise((resolve) => {
    const seen: Seen[] = [];
    stream.on("data", (message: Seen) => seen.push(message));
    stream.on("end", () => resolve({ seen }));
    stream.on("error", (error: grpc.ServiceError) => {
      const [details] = error.metadata.get("grpc-status-details-bin");
      const told = new Headers({ "grpc-status": String(error.code) });
      if (details instanceof Buffer) told.set("grpc-status-details-bin", details.toString("base64"));
      resolve({
        code: error.code,
        message: error.details,
        reason: findTrailerError(told)?.findDetails(ErrorInfoSchema)[0]?.reason,
        challenge: error.metadata.get("www-authenticate")[0],
      });
    });
  });
}

function sawOf(outcome: Outcome): Seen[] {
  assert.ok("seen" in outcome, JSON.stringify(outcome));
  return outcome.seen;
}

function assertRefused(outcome: Outcome, code: grpc.status, reason: string | undefined): void {
  assert.ok(!("seen" in outcome), JSON.stringify(outcome));
  assert.deepEqual([grpc.status[outcome.code], outcome.reason], [grpc.status[code], reason]);
}

/** The identity that the service saw; fails where it saw a token, or anything that was forged. */
function identity({ headers }: Seen): Record<string, string> {
  const text = JSON.stringify(headers);
  for (const { token } of [ada, payer, gateway]) assert.ok(!text.includes(token), "the token went on");
  assert.ok(!text.includes("forged"), text);
  const mine = headers.filter(([name]) => name.replaceAll("_", "-").startsWith("x-latchkey-"));
  assert.equal(new Set(mine.map(([name]) => name)).size, mine.length, "each is there once");
  return Object.fromEntries(mine);
}

const identityOf = ({ key, id }: MadeKey, username: string) => ({
  "x-latchkey-user-id": String(key.userId),
  "x-latchkey-username": username,
  "x-latchkey-is-staff": "false",
  "x-latchkey-credential-kind": "api_key",
  "x-latchkey-api-key-id": id,
});

const forged = {
  "x-latchkey-user-id": ["forged1", "forged2"],
  "X-Latchkey-Api-Key-Id": "forged",
  "x-latchkey-username": "forged",
};

for (const name of ["envoy", "nginx", "caddy"] as const satisfies ProxyName[]) {
  describe(name, () => {
    let proxy: RunningProxy;
    let client: grpc.Client;
    before(async () => {
      proxy = await startProxy(name, { latchkey: world.latchkey.port, guarded, token: gateway.token });
      client = new grpc.Client(`127.0.0.1:${proxy.grpc}`, grpc.credentials.createInsecure());
    });
    after(async () => {
      client?.close();
      await proxy?.stop();
    });

    test("the service sees who calls, and no token, whatever the caller forged", async () => {
      for (const credential of [{ "x-api-key": ada.token }, { authorization: `Bearer ${ada.token}` }]) {
        const [seen] = sawOf(await call(client, `/${service}/Pay`, { ...credential, ...forged }));
        assert.ok(seen);
        assert.equal(seen.called, "Pay");
        assert.deepEqual(identity(seen), identityOf(ada, "user-2"));
      }
    });

    test("a stream is let in once, for all of its messages", async () => {
      const seen = sawOf(await call(client, `/${service}/Watch`, { "x-api-key": ada.token }));
      assert.deepEqual(
        seen.map(({ called }) => called),
        ["Watch", "Watch", "Watch"],
      );
      for (const each of seen) assert.deepEqual(identity(each), identityOf(ada, "user-2"));
    });

    test("a restricted key calls what it may, and nothing else", async () => {
      const [seen] = sawOf(await call(client, `/${service}/Pay`, { "x-api-key": payer.token }));
      assert.deepEqual(seen && identity(seen), identityOf(payer, "user-3"));
      const refused = await call(client, `/${service}/Void`, { "x-api-key": payer.token });
      assertRefused(refused, grpc.status.PERMISSION_DENIED, "METHOD_NOT_ALLOWED");
      assert.equal("message" in refused && refused.message, "this API key may not call this method");
    });

    test("no key, and a bad one, are refused, with a challenge", async () => {
      for (const [sent, reason, challenge] of [
        [{}, "MISSING", "Bearer"],
        [{ "x-api-key": "lk_none" }, "INVALID_API_KEY", 'Bearer error="invalid_token"'],
        [
          { "x-api-key": ada.token, authorization: `Bearer ${payer.token}` },
          "INVALID_API_KEY",
          'Bearer error="invalid_token"',
        ],
      ] as const) {
        const refused = await call(client, `/${service}/Pay`, sent);
        assertRefused(refused, grpc.status.UNAUTHENTICATED, reason);
        assert.equal("challenge" in refused && refused.challenge, challenge);
      }
    });

    test("an anonymous caller of a public method is let in, with no identity", async () => {
      const [seen] = sawOf(await call(client, "/billing.v1.StatusService/Get", forged));
      assert.deepEqual(seen && identity(seen), {});
    });

    test("a revoked key is refused, and each call is counted and logged as what it was", async () => {
      const key = await world.newKey({ allowedMethods: [`${service}/Pay`] });
      const sent = { "x-api-key": key.token };
      sawOf(await call(client, `/${service}/Pay`, sent));
      await call(client, `/${service}/Void`, sent);
      await world.staff.keys.revokeApiKey({ id: key.id });
      const refused = await until(
        () => call(client, `/${service}/Pay`, sent),
        (outcome) => !("seen" in outcome),
      );
      assertRefused(refused, grpc.status.UNAUTHENTICATED, "REVOKED");
      const rows = await until(
        async () =>
          (await world.staff.logs.listRequestLogs({ filter: { apiKeyId: key.id } })).requestLogs.reverse(),
        (found) => found.at(-1)?.code === "unauthenticated",
      );
      const protocol = name === "envoy" ? "ext_authz" : "forward_auth";
      assert.ok(rows.every((row) => row.service === service && row.protocol === protocol));
      assert.ok(
        rows.every((row) => row.peerAddress === "127.0.0.1" && row.userAgent.startsWith("grpc-node")),
      );
      const told = rows.map((row) => `${row.method} ${row.code}`);
      // It may have been let in again before the news of its end came round.
      const again = told.length - 3;
      assert.deepEqual(told, [
        "Pay ok",
        "Void permission_denied",
        ...Array.from({ length: again }, () => "Pay ok"),
        "Pay unauthenticated",
      ]);
      assert.equal((await world.stored(key.id)).requestCount, BigInt(2 + again));
    });

    test("no way of writing a path brings a restricted key to another method", async () => {
      const session = http2.connect(`http://127.0.0.1:${proxy.grpc}`);
      const calledBy = new Set<string>();
      for (const path of [
        `/${service}/Pay`,
        `/${service}/Void`,
        `/${service}/%56oid`,
        `/${service}/Pay/../Void`,
        `/${service}/Pay/%2e%2e/Void`,
        `/${service}/Pay%2f..%2fVoid`,
        `/${service}//Void`,
        `//${service}/Void`,
        `/${service}/Void/`,
        `/${service}/Void?/${service}/Pay`,
        `/${service}/Pay?/../Void`,
        `/${service}/Pay#/../Void`,
        `/${service}/Pay;/../Void`,
        `/${service}/Pay\\..\\Void`,
        `/${service.toUpperCase()}/Void`,
        `/billing.v1.StatusService/..%2f${service}/Void`,
        `/billing.v1.StatusService/Get/../../${service}/Void`,
      ]) {
        for (const smuggled of [
          {},
          { "x-original-uri": `/${service}/Pay` },
          { "x-forwarded-uri": `/${service}/Pay` },
        ]) {
          const stream = session.request({
            ":method": "POST",
            ":path": path,
            "content-type": "application/grpc",
            te: "trailers",
            "x-api-key": payer.token,
            ...smuggled,
          });
          let answer = "";
          stream.setEncoding("latin1").on("data", (text: string) => {
            answer += text;
          });
          stream.on("error", () => {});
          stream.end(Buffer.alloc(5));
          await new Promise((resolve) => stream.on("close", resolve));
          const called = answer.match(/"called": "(\w+)"/)?.[1];
          if (called !== undefined) calledBy.add(called);
        }
      }
      session.close();
      assert.deepEqual([...calledBy], ["Pay"]);
    });

    if (name === "envoy") {
      test("Envoy's own access log can tell who was let in, and why who was not", async () => {
        await call(client, `/${service}/Void?logged`, { "x-api-key": payer.token });
        const text = await until(proxy.said, (said) => said.includes("Void?logged"));
        const line = text.split("\n").find((each) => each.includes("Void?logged")) ?? "";
        assert.deepEqual(JSON.parse(line.slice(line.indexOf("{"))), {
          code: "permission_denied",
          credential_kind: "api_key",
          denial_reason: "METHOD_NOT_ALLOWED",
          user_id: String(payer.key.userId),
          username: "user-3",
          is_staff: false,
          api_key_id: payer.id,
        });
      });
    }

    if (name !== "caddy") {
      const rest = (token: string | undefined, method = "GET", path = "/invoices/42") =>
        fetch(`http://127.0.0.1:${proxy.rest}${path}`, {
          method,
          headers: { ...(token !== undefined && { "x-api-key": token }), "x-latchkey-user-id": "forged" },
        });

      test("a REST service is guarded by its name and the HTTP method", async () => {
        const seen = (await (await rest(payer.token)).json()) as Seen;
        assert.equal(seen.called, "GET /invoices/42");
        assert.deepEqual(identity(seen), identityOf(payer, "user-3"));
        const refused = await rest(payer.token, "DELETE");
        assert.equal(refused.status, 403);
        assert.equal(((await refused.json()) as { code: string }).code, "permission_denied");
        assert.equal(
          ((await (await rest(ada.token, "DELETE")).json()) as Seen).called,
          "DELETE /invoices/42",
        );
      });

      test("a caller without a key is told so in JSON, with a challenge", async () => {
        const answer = await rest(undefined);
        assert.equal(answer.status, 401);
        assert.equal(answer.headers.get("www-authenticate"), "Bearer");
        assert.match(answer.headers.get("content-type") ?? "", /^application\/json/);
        const error = (await answer.json()) as { code: string; details: { debug: unknown }[] };
        assert.equal(error.code, "unauthenticated");
        assert.deepEqual(error.details[0]?.debug, { reason: "MISSING", domain: "latchkey" });
      });
    }

    test("where there is no verdict there is no entry, and the caller is told to try again", async (t) => {
      const away = await startProxy(name, { latchkey: 1, guarded, token: gateway.token });
      t.after(() => away.stop());
      const lost = new grpc.Client(`127.0.0.1:${away.grpc}`, grpc.credentials.createInsecure());
      t.after(() => lost.close());
      assertRefused(
        await call(lost, `/${service}/Pay`, { "x-api-key": ada.token }),
        grpc.status.UNAVAILABLE,
        undefined,
      );
      if (name === "caddy") return;
      const answer = await fetch(`http://127.0.0.1:${away.rest}/invoices/42`, {
        headers: { "x-api-key": ada.token },
      });
      assert.equal(answer.status, 503);
    });

    test("a proxy whose key may not ask lets nobody in, and blames no caller's key", async (t) => {
      const badly = await startProxy(name, { latchkey: world.latchkey.port, guarded, token: ada.token });
      t.after(() => badly.stop());
      const lost = new grpc.Client(`127.0.0.1:${badly.grpc}`, grpc.credentials.createInsecure());
      t.after(() => lost.close());
      assertRefused(
        await call(lost, `/${service}/Pay`, { "x-api-key": ada.token }),
        grpc.status.UNAVAILABLE,
        undefined,
      );
    });
  });
}
