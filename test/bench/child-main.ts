/** The child's side of the messages of `child.ts`. */
import { getHeapStatistics } from "node:v8";

type Handlers = Readonly<Record<string, (args: never) => unknown>>;

/**
 * Answers what the parent asks for by these names, and "memory": bytes of the heap with what it
 * holds outside, and of the process, after a collection. Ends when the parent disconnects.
 */
export function answerParent(handlers: Handlers): void {
  process.on("disconnect", () => process.exit());
  process.on("message", async ({ what, args }: { what: string; args: never }) => {
    try {
      const handle = what === "memory" ? memory : handlers[what];
      if (handle === undefined) throw new Error(`nothing is known of ${what}`);
      process.send?.({ value: await handle(args) });
    } catch (error) {
      process.send?.({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
  });
}

export interface Memory {
  readonly heap: number;
  readonly resident: number;
}

function memory(): Memory {
  return { heap: heapBytes(), resident: process.memoryUsage.rss() };
}

/** Of the heap with what it holds outside, after a collection. */
export function heapBytes(): number {
  globalThis.gc?.();
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics();
  return heap + external;
}
