/** A span for each RPC, under its caller's, and its trace on the row of the request log. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { type CallOptions, Code, ConnectError, createClient } from "@connectrpc/connect";
import { context, SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import {
  ATTR_CLIENT_ADDRESS,
  ATTR_ERROR_TYPE,
  ATTR_RPC_METHOD,
  ATTR_RPC_STATUS_CODE,
  ATTR_RPC_SYSTEM_NAME,
} from "@opentelemetry/semantic-conventions";
import { ATTR_USER_ID } from "@opentelemetry/semantic-conventions/incubating";
import { createUserAndKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { collect, Fixture, never, type Protocol, protocols } from "./protocols.ts";

const exporter = new InMemorySpanExporter();
const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
/** A handler's own. */
const handlerTracer = provider.getTracer("handler");
const childSpan = (name: string) => handlerTracer.startSpan(name).end();

let latchkey: TestServer;
let ada: { userId: bigint; apiKeyId: string; token: string };
let revoked: typeof ada;
before(async () => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager());
  latchkey = await startServer(
    {},
    {
      tracerProvider: provider,
      routes(router) {
        router.service(Fixture, {
          async unary({ value }) {
            await Promise.resolve();
            childSpan("child");
            switch (Buffer.from(value).toString()) {
              case "not found":
                throw new ConnectError("no such thing", Code.NotFound);
              case "throw":
                throw new Error("the password is swordfish");
              case "tell the token":
                throw new ConnectError(`cannot use ${ada.token}`, Code.Internal);
              case "hang":
                await never;
            }
            return { value };
          },
          async *serverStream({ value }) {
            for (let n = 0; n < 3; n++) {
              await Promise.resolve();
              childSpan(`child ${n}`);
              yield { value };
            }
            if (value.length > 0) await never;
          },
          async clientStream(values) {
            let last: Uint8Array = new Uint8Array();
            for await (const { value } of values) {
              last = value;
              childSpan("child");
            }
            return { value: Buffer.from(last) };
          },
        });
      },
    },
  );
  ada = await createUserAndKey(latchkey.asStaff, "ada");
  revoked = await createUserAndKey(latchkey.asStaff, "revoked");
  await latchkey.asStaff.keys.revokeApiKey({ id: revoked.apiKeyId });
});
after(() => latchkey.close());

function clientOf(protocol: Protocol) {
  return createClient(Fixture, protocol.transport(latchkey.url));
}

type FixtureClient = ReturnType<typeof clientOf>;

/** Whose call a span is: a trace of its own, and the caller's span in it. */
function callerSpan() {
  const [traceId, spanId] = [randomBytes(16).toString("hex"), randomBytes(8).toString("hex")];
  return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-01` };
}

const spansOf = (traceId: string) =>
  exporter.getFinishedSpans().filter((span) => span.spanContext().traceId === traceId);
const isRpc = ({ instrumentationScope }: ReadableSpan) => instrumentationScope.name === "latchkey";

const text = (value: string) => ({ value: Buffer.from(value) });

interface Case {
  readonly method: string;
  readonly call: (client: FixtureClient, options: CallOptions) => Promise<unknown>;
  readonly as?: () => { userId: bigint; apiKeyId: string; token: string };
  readonly code?: Code;
  readonly children?: number;
  readonly isError?: boolean;
  /** Sent as a header, so that it is the server that ends the call. */
  readonly timeoutMs?: number;
  readonly denial?: string;
}

const cases: Readonly<Record<string, Case>> = {
  "a unary call that is answered": {
    method: "Unary",
    call: (client, options) => client.unary(text("x"), options),
    as: () => ada,
    children: 1,
  },
  "an anonymous call": { method: "Unary", call: (client, options) => client.unary({}, options), children: 1 },
  "a call that the handler refuses": {
    method: "Unary",
    call: (client, options) => client.unary(text("not found"), options),
    as: () => ada,
    code: Code.NotFound,
    children: 1,
  },
  "a call whose handler fails": {
    method: "Unary",
    call: (client, options) => client.unary(text("throw"), options),
    as: () => ada,
    code: Code.Internal,
    children: 1,
    isError: true,
  },
  "a call whose deadline passes": {
    method: "Unary",
    call: (client, options) => client.unary(text("hang"), options),
    as: () => ada,
    timeoutMs: 100,
    code: Code.DeadlineExceeded,
    children: 1,
    isError: true,
  },
  "a call with a revoked key": {
    method: "Unary",
    call: (client, options) => client.unary({}, options),
    as: () => revoked,
    code: Code.Unauthenticated,
    denial: "REVOKED",
  },
  "a stream with a revoked key": {
    method: "ServerStream",
    call: (client, options) => collect(client.serverStream({}, options)),
    as: () => revoked,
    code: Code.Unauthenticated,
    denial: "REVOKED",
  },
  "a stream to its end": {
    method: "ServerStream",
    call: (client, options) => collect(client.serverStream({}, options)),
    as: () => ada,
    children: 3,
  },
  "a stream that its client leaves": {
    method: "ServerStream",
    async call(client, options) {
      const stop = new AbortController();
      for await (const _ of client.serverStream(text("go on"), { ...options, signal: stop.signal }))
        stop.abort();
    },
    as: () => ada,
    code: Code.Canceled,
  },
  "a client's stream": {
    method: "ClientStream",
    async call(client, options) {
      const messages = async function* () {
        for (let n = 0; n < 4; n++) yield text("x");
      };
      await client.clientStream(messages(), options);
    },
    as: () => ada,
    children: 4,
  },
};

for (const protocol of protocols) {
  for (const [name, { method, call, as, code, children, isError, timeoutMs, denial }] of Object.entries(
    cases,
  )) {
    // Connect over HTTP/1.1 has no client streams.
    if (method === "ClientStream" && ["Connect JSON", "gRPC-Web"].includes(protocol.name)) continue;
    test(`${protocol.name}: ${name} is one span under its caller's, with code and key, and never a token`, async () => {
      const caller = callerSpan();
      const token = as?.().token;
      const headers = {
        traceparent: caller.traceparent,
        ...(token !== undefined && { "x-api-key": token }),
        ...(timeoutMs !== undefined && { [protocol.timeoutHeader]: protocol.timeout(timeoutMs) }),
      };
      const failure = await call(clientOf(protocol), { headers }).then(() => undefined, ConnectError.from);
      assert.equal(failure?.code, code);

      const [row] = await until(
        async () =>
          await latchkey.sql`SELECT code, api_key_id FROM request_logs WHERE trace_id = ${caller.traceId}`,
        (rows) => rows.length > 0,
      );
      assert.deepEqual({ ...row }, { code: code ?? 0, api_key_id: as?.().apiKeyId ?? null });

      const spans = spansOf(caller.traceId);
      const [span, ...others] = spans.filter(isRpc);
      assert.ok(span);
      assert.equal(others.length, 0);
      assert.equal(span.name, `test.Fixture/${method}`);
      assert.equal(span.kind, SpanKind.SERVER);
      assert.equal(span.parentSpanContext?.spanId, caller.spanId);
      assert.equal(span.parentSpanContext?.isRemote, true);
      const isConnect = protocol.logged === "connect";
      const status = statusOf(code ?? 0, isConnect);
      const { userId, apiKeyId } = as?.() ?? {};
      const expected = {
        [ATTR_RPC_SYSTEM_NAME]: isConnect ? "connectrpc" : "grpc",
        [ATTR_RPC_METHOD]: `test.Fixture/${method}`,
        [ATTR_RPC_STATUS_CODE]: status,
        [ATTR_CLIENT_ADDRESS]: "127.0.0.1",
        ...(apiKeyId !== undefined && { "latchkey.api_key.id": apiKeyId }),
        ...(apiKeyId !== undefined && denial === undefined && { [ATTR_USER_ID]: String(userId) }),
        ...(denial !== undefined && { "latchkey.denial_reason": denial }),
        ...(isError && { [ATTR_ERROR_TYPE]: status }),
      };
      assert.deepEqual({ ...span.attributes }, expected);
      assert.equal(span.status.code, isError ? SpanStatusCode.ERROR : SpanStatusCode.UNSET);
      assert.doesNotMatch(span.status.message ?? "", /swordfish/);

      const made = spans.filter((one) => !isRpc(one));
      if (children !== undefined || denial !== undefined) assert.equal(made.length, children ?? 0);
      for (const child of made) assert.equal(child.parentSpanContext?.spanId, span.spanContext().spanId);
      assertNoSecret(spans, [token, latchkey.server.secretKey]);
    });
  }
}

const grpcNames: Readonly<Partial<Record<Code | 0, string>>> = {
  0: "OK",
  [Code.NotFound]: "NOT_FOUND",
  [Code.Internal]: "INTERNAL",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
  [Code.Unauthenticated]: "UNAUTHENTICATED",
  [Code.Canceled]: "CANCELLED",
};

function statusOf(code: Code | 0, isConnect: boolean): string | undefined {
  if (!isConnect) return grpcNames[code];
  return code === Code.Canceled ? "canceled" : grpcNames[code]?.toLowerCase();
}

function assertNoSecret(spans: readonly ReadableSpan[], secrets: readonly (string | undefined)[]): void {
  const shown = JSON.stringify(
    spans.map(({ name, attributes, status, events, links }) => ({ name, attributes, status, events, links })),
  );
  for (const secret of secrets) if (secret !== undefined) assert.ok(!shown.includes(secret));
}

test("a token that a handler puts into its error is blotted out of the span", async () => {
  const caller = callerSpan();
  const headers = { traceparent: caller.traceparent, "x-api-key": ada.token };
  await assert.rejects(clientOf(protocols[0]!).unary(text("tell the token"), { headers }), {
    code: Code.Internal,
  });
  const spans = await until(
    () => spansOf(caller.traceId).filter(isRpc),
    (found) => found.length === 1,
  );
  assert.match(spans[0]?.status.message ?? "", /^cannot use lk_\[redacted\]$/);
  assertNoSecret(spans, [ada.token]);
});

test("without a caller's span, a call is the root of a trace of its own, and so its row says", async () => {
  const headers = { "x-request-id": "root-of-its-own" };
  await clientOf(protocols[0]!).unary({}, { headers });
  const [row] = await until(
    async () => await latchkey.sql`SELECT trace_id FROM request_logs WHERE request_id = 'root-of-its-own'`,
    (rows) => rows.length === 1,
  );
  const [span] = spansOf(row?.trace_id).filter(isRpc);
  assert.ok(span);
  assert.equal(span.parentSpanContext, undefined);
});

test("a verdict that is asked for is in the asking call's trace, and no span of its own", async () => {
  const caller = callerSpan();
  const headers = { traceparent: caller.traceparent };
  await latchkey.asStaff.keys.verifyApiKey({ token: ada.token, method: "a.B/C" }, { headers });
  const rows = await until(
    async () =>
      await latchkey.sql`SELECT method FROM request_logs WHERE trace_id = ${caller.traceId} ORDER BY method`,
    (found) => found.length === 2,
  );
  assert.deepEqual(
    rows.map(({ method }) => method),
    ["C", "VerifyApiKey"],
  );
  assert.equal(spansOf(caller.traceId).length, 1);
});
