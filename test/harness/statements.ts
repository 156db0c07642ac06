/** Statements that go out in every turn of the event loop. */
import type postgres from "postgres";
import { until } from "./until.ts";

export interface Statements {
  /** Resolves when so many more were answered. */
  answered(more: number): Promise<void>;
  /** Those that failed, by the code of the error. */
  readonly failures: Map<string, number>;
  /** No more are sent. */
  stop(): void;
  /** Stops, and resolves when each that was sent was answered or has failed. */
  settled(): Promise<void>;
}

/** More that wait would hide one that waits for ever. */
const maxOpen = 20;

export function startStatements(client: postgres.Sql): Statements {
  const failures = new Map<string, number>();
  let [running, open, answered] = [true, 0, 0];
  async function send(): Promise<void> {
    open++;
    try {
      await client`SELECT 1`;
      answered++;
    } catch (error) {
      const { code } = error as { code?: unknown };
      failures.set(String(code), (failures.get(String(code)) ?? 0) + 1);
    } finally {
      open--;
    }
  }
  function turn(): void {
    if (!running) return;
    if (open < maxOpen) void send();
    setImmediate(turn);
  }
  turn();
  const stop = () => {
    running = false;
  };
  return {
    failures,
    stop,
    async answered(more) {
      const wanted = answered + more;
      await until(
        () => answered,
        (n) => n >= wanted,
      );
    },
    async settled() {
      stop();
      await until(
        () => open,
        (n) => n === 0,
      );
    },
  };
}
