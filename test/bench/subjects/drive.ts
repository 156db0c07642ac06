/** Asks for verdicts as fast as they come. */

export type Driven = {
  /** Verdicts a second. */
  readonly perS: number;
  /** Verdicts a second of this process's processor time. */
  readonly perServerS: number;
  /** Share of the verdicts that came at once, without a promise. */
  readonly atOnce: number;
};

/** Verdicts that come at once may not keep the event loop from its timers for longer than this. */
const turnMs = 5;

/**
 * Asks in so many lanes at once, each asking again when it was answered, for so many seconds.
 * `ask` throws or rejects where the verdict is wrong. What `drained` waits for belongs to the time.
 */
export async function drive(
  ask: () => unknown,
  seconds: number,
  lanes: number,
  drained?: () => Promise<void>,
): Promise<Driven> {
  const began = performance.now();
  const cpuBefore = process.cpuUsage();
  const until = began + seconds * 1000;
  let verdicts = 0;
  let awaited = 0;

  let turnEnds = 0;
  async function lane(): Promise<void> {
    while (performance.now() < until) {
      if (performance.now() >= turnEnds) {
        await new Promise((resolve) => setImmediate(resolve));
        if (performance.now() >= turnEnds) turnEnds = performance.now() + turnMs;
      }
      // The clock is not for free: it is asked after some of them.
      for (let n = 0; n < 32; n++) {
        const asked = ask();
        verdicts++;
        if (asked instanceof Promise) {
          awaited++;
          await asked;
        }
      }
    }
  }

  await Promise.all(Array.from({ length: lanes }, lane));
  await drained?.();
  const { user, system } = process.cpuUsage(cpuBefore);
  return {
    perS: (verdicts * 1000) / (performance.now() - began),
    perServerS: (verdicts * 1e6) / (user + system),
    atOnce: 1 - awaited / verdicts,
  };
}
