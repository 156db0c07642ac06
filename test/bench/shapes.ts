/** The shapes of the load: connections, and calls at once on each. The same for all peers. */
import type { Protocol } from "./echo.ts";

export interface Shape {
  /** E.g. "10 x 10". */
  readonly id: string;
  readonly connections: number;
  readonly streams: number;
  /** More than those that write to the database for each call answer in time. */
  readonly flood?: true;
}

/** HTTP/1.1 has one call at a time on a connection. */
export const shapes: Readonly<Record<Protocol, readonly Shape[]>> = {
  grpc: [shape(1, 32), shape(10, 10), shape(100, 10), { ...shape(100, 100), flood: true }],
  json: [shape(1, 1), shape(10, 1), shape(100, 1)],
};

function shape(connections: number, streams: number): Shape {
  return { id: `${connections} x ${streams}`, connections, streams };
}
