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
    await pair.compareAll(
      usual.flatMap((protocol) =>
        (["all", "late", "nothing"] as const).map((look) => {
          const message = {
            text: ask(name, look),
            big: 7n,
            data: new Uint8Array([0, 128, 255]),
            list: ["é"],
          };
          return [`${name}, ${look}, ${protocol.name}`, build(protocol, { message })] as const;
        }),
      ),
    );
  });
}

for (const name of interceptions) {
  test(`an interceptor that does this: ${name}`, async () => {
    await pair.compareAll(
      usual.flatMap((protocol) =>
        ["echo", "headers", "throw NotFound", "throw an Error"].map((behaviour) => {
          const message = { text: ask(behaviour), list: [name] };
          const request = build(protocol, { service: "Intercepted", message });
          return [`interceptor: ${name}, ${behaviour}, ${protocol.name}`, request] as const;
        }),
      ),
    );
  });
}

test("both log the same of all of it", async () => {
  const rows = await pair.compareRows();
  assert.ok(rows > 500, `${rows} requests were logged`);
});
