/** Whether somebody has hooked into what Fastify does with every request. */
import type { FastifyInstance } from "fastify";

type AddHook = (this: FastifyInstance, name: string, hook: unknown, ...rest: unknown[]) => FastifyInstance;

/**
 * Watches for `onRequest` hooks that are added to the instance itself from now on, by
 * whomever, plugins included: those meet every request. Returns what says whether there
 * is one beside those that do not count. Fastify has no way to ask; `addHook` is a method
 * that plugins find through their prototype.
 */
export function watchRequestHooks(app: FastifyInstance, besides: readonly unknown[]): () => boolean {
  let hooked = false;
  const addHook = app.addHook as AddHook;
  const watching: AddHook = function (name, hook, ...rest) {
    if (name === "onRequest" && this === app && !besides.includes(hook)) hooked = true;
    return addHook.call(this, name, hook, ...rest);
  };
  app.addHook = watching as typeof app.addHook;
  return () => hooked;
}
