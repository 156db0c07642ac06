/** A reporter that tells a failure when it happens, and not only at the end, which a run that hangs does not reach. */

import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";

export default async function* reportFailures(events: AsyncIterable<TestEvent>) {
  for await (const { type, data } of events) {
    if (type !== "test:fail") continue;
    const { error } = data.details;
    yield `\n✖ ${data.file ?? ""}: ${data.name}\n${inspect(error.cause ?? error)}\n`;
  }
}
