/** Asks for verdicts as fast as they come. */

export type Driven = {
  /** Verdicts a second. */
  readonly perS: number;
  /** Verdicts a second of this process's processor time. */
  readonly perServerS: number;
  /** Share of the verdicts that came at once, without a promise. */
  readonly atOnce: number;
};

export interface Drive {
  readonly seconds: number;
  /** So many ask at once, each again when it was answered. */
  readonly lanes: number;
  /** Throws or rejects where the verdict is wrong. */
  readonly ask: () => unknown;
  /** Called before each {@link prepared} verdicts; what it takes is left out of the time. */
  readonly prepare?: () => void;
  /** Awaited at the end, within the time. */
  readonly drained?: () => Promise<void>;
}

/** Few enough to stay in a processor's own cache. */
export const prepared = 256;
/** Verdicts that come at once may not keep the event loop from its timers for longer than this. */
const turnMs = 5;

export async function drive({ seconds, lanes, ask, prepare, drained }: Drive): Promise<Driven> {
  const clock = startClock();
  const until = performance.now() + seconds * 1000;
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
        if (prepare !== undefined && verdicts % prepared === 0) clock.without(prepare);
        verdicts++;
        const asked = ask();
        if (asked instanceof Promise) {
          awaited++;
          await asked;
        }
      }
    }
  }

  await Promise.all(Array.from({ length: lanes }, lane));
  await drained?.();
  const taken = clock.stop();
  return {
    perS: verdicts / taken.wallS,
    perServerS: verdicts / taken.processorS,
    atOnce: 1 - awaited / verdicts,
  };
}

/** The time and the processor time from now on, without those of some things. */
function startClock() {
  const look = () => {
    const { user, system } = process.cpuUsage();
    return { wallS: performance.now() / 1000, processorS: (user + system) / 1e6 };
  };
  const start = look();
  return {
    without(run: () => void): void {
      const before = look();
      run();
      const after = look();
      start.wallS += after.wallS - before.wallS;
      start.processorS += after.processorS - before.processorS;
    },
    stop() {
      const now = look();
      return { wallS: now.wallS - start.wallS, processorS: now.processorS - start.processorS };
    },
  };
}
