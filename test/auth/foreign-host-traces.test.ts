/** Spans on stock Connect hosts, with and without a gate: one for each RPC, refused ones too. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { context } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { recordTraces } from "../../src/rpc/traces.ts";
import { createUserAndKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { assemble, type Host, hostKinds, type Parts } from "./foreign-hosts.ts";
import { call, compileTableServices, methodOf } from "./table-services.ts";

const exporter = new InMemorySpanExporter();
const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
let latchkey: TestServer;
let ada: { apiKeyId: string; token: string };
let gone: typeof ada;
before(async () => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager());
  latchkey = await startServer();
  ada = await createUserAndKey(latchkey.asStaff, "ada");
  gone = await createUserAndKey(latchkey.asStaff, "gone");
  await latchkey.asStaff.keys.revokeApiKey({ id: gone.apiKeyId });
});
after(() => latchkey.close());

for (const hostKind of hostKinds) {
  for (const withGate of [true, false]) {
    describe(`${hostKind.name}, ${withGate ? "with" : "without"} a gate`, () => {
      const services = compileTableServices();
      const optional = services.Optional ?? assert.fail("there is no service Optional");
      let parts: Parts;
      let host: Host;
      before(async () => {
        const record = (recorder: Parameters<typeof recordTraces>[0]) =>
          recordTraces(recorder, { provider, redact: (said) => said });
        parts = await assemble(latchkey.databaseUrl, [optional], withGate, record);
        host = await hostKind.start(parts.options);
      });
      after(async () => {
        await host.close();
        await parts.close();
      });

      for (const [protocol, transport] of hostKind.clients) {
        for (const kind of ["Unary", "Down"] as const) {
          for (const [who, status] of [
            ["ada", "ok"],
            ["gone", "unauthenticated"],
          ] as const) {
            test(`${protocol}, ${kind}: the call of ${who} is one span under its caller's`, async () => {
              const key = who === "ada" ? ada : gone;
              const [traceId, spanId] = [randomBytes(16).toString("hex"), randomBytes(8).toString("hex")];
              const headers = { "x-api-key": key.token, traceparent: `00-${traceId}-${spanId}-01` };
              const answers = async () => {
                const method = methodOf(optional, kind);
                for await (const _ of call(transport(host.url), method, { text: "", headers }));
              };
              if (who === "ada") await answers();
              else await assert.rejects(answers());
              const [span, ...others] = await until(
                () => exporter.getFinishedSpans().filter((one) => one.spanContext().traceId === traceId),
                (spans) => spans.length > 0,
              );
              assert.equal(others.length, 0);
              assert.equal(span?.parentSpanContext?.spanId, spanId);
              assert.equal(String(span?.attributes["rpc.status_code"]).toLowerCase(), status);
              assert.equal(span?.attributes["latchkey.api_key.id"], key.apiKeyId);
              assert.ok(!JSON.stringify(span?.attributes).includes(key.token));
            });
          }
        }
      }
    });
  }
}
