/** Waits for the thing itself. */
import { setTimeout as sleep } from "node:timers/promises";

/** Looks again and again until what is found is as it should be; gives up, saying what was found, after 20 s. */
export async function until<T>(look: () => T | Promise<T>, isDone: (found: T) => boolean): Promise<T> {
  const giveUpAt = performance.now() + 20_000;
  for (;;) {
    const found = await look();
    if (isDone(found)) return found;
    if (performance.now() > giveUpAt) {
      const shown = JSON.stringify(found, (_, value) => (typeof value === "bigint" ? String(value) : value));
      throw new Error(`waited 20 s in vain; last found: ${shown}`);
    }
    await sleep(10);
  }
}
