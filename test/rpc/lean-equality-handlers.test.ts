/** Whatever a handler or an interceptor does, the lean unary path answers and logs it as stock Connect does. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, behaviourNames } from "./equality/behaviours.ts";
import { build, protocols, usual } from "./equality/calls.ts";
import { interceptions } from "./equality/mount.ts";
import { type Pair, startPair } from "./equality/pair.ts";

let pair: Pair;
before(async () => {
  pair = await startPair();
});
after(() => pair.close());

for (const protocol of protocols) {
  test(`${protocol.name}: a call is answered`, async () => {
    const { answer } = await pair.compare(build(protocol, { message: { text: ask("echo") } }), protocol.name);
    assert.ok([200, 415, 505].includes(answer.status), `${answer.status}`);
  });
}

for (const name of behaviourNames) {
  test(`a handler that does this: ${name}`, async () => {
    for (const protocol of usual) {
      for (const look of ["all", "late", "nothing"] as const) {
        const message = { text: ask(name, look), big: 7n, data: new Uint8Array([0, 128, 255]), list: ["é"] };
        await pair.compare(build(protocol, { message }), `${name}, ${look}, ${protocol.name}`);
      }
    }
  });
}

for (const name of interceptions) {
  test(`an interceptor that does this: ${name}`, async () => {
    for (const protocol of usual) {
      for (const behaviour of ["echo", "headers", "throw NotFound", "throw an Error"]) {
        const message = { text: ask(behaviour), list: [name] };
        await pair.compare(
          build(protocol, { service: "Intercepted", message }),
          `interceptor: ${name}, ${behaviour}, ${protocol.name}`,
        );
      }
    }
  });
}

test("both log the same of all of it", async () => {
  const rows = await pair.compareRows();
  assert.ok(rows > 500, `${rows} requests were logged`);
});
