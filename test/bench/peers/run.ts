/**
 * The process of one peer. It is told what to start in a message, tells its port in another, and
 * ends when it is told to close or when who started it is gone.
 */
import { getHeapStatistics } from "node:v8";
import { echoService } from "../echo.ts";
import type { RunningPeer, StartPeer } from "./peer.ts";

interface Start extends Omit<Parameters<StartPeer>[0], "service"> {
  readonly module: string;
  /** The compiled service, in base64. */
  readonly image: string;
}

let running: RunningPeer | undefined;

process.on("disconnect", () => process.exit());
process.on("message", async (message: { start?: Start; close?: true; memory?: true }) => {
  try {
    if (message.start !== undefined) {
      const { module, image, ...job } = message.start;
      const { start } = (await import(`./${module}.ts`)) as { start: StartPeer };
      running = await start({ ...job, service: echoService(Buffer.from(image, "base64")) });
      process.send?.({ port: running.port, token: running.token });
    }
    if (message.memory) process.send?.(memory());
    if (message.close) {
      await running?.close();
      process.send?.({}, () => process.disconnect());
    }
  } catch (error) {
    process.send?.({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
});

/** In bytes, after a collection where that can be asked for. */
function memory() {
  globalThis.gc?.();
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics();
  return { heap: heap + external, resident: process.memoryUsage.rss() };
}
