/** What a test has to clear away. */
import type { TestContext } from "node:test";

const cleanups = new WeakMap<TestContext, (() => Promise<unknown>)[]>();

/** Runs `step` after the test, last registered first: servers stop before their directories go. */
export function finallyDo(t: TestContext, step: () => Promise<unknown>): void {
  let steps = cleanups.get(t);
  if (!steps) {
    steps = [];
    cleanups.set(t, steps);
    t.after(async () => {
      for (let next = steps?.pop(); next; next = steps?.pop()) await next();
    });
  }
  steps.push(step);
}
