/** What a primary and its workers say to each other, over the channel of `fork`. */
import type { Config } from "../config.ts";
import type { Metric } from "../usage/metric.ts";

/** The secret key and the database: made or started by the primary, where none was given. */
export type Found = Pick<Config, "secretKey" | "databaseUrl">;

export type ToWorker =
  /** First: the settings as they were given, and what the primary has made of some of them for all. */
  | { readonly kind: "start"; readonly config: Config; readonly found: Found }
  /** With a socket, unless that has ended on the way. */
  | { readonly kind: "connection"; readonly id: number }
  /** Tell your figures. */
  | { readonly kind: "metrics"; readonly id: number }
  /** Take nothing new, finish, and end. */
  | { readonly kind: "stop" };

export type FromWorker =
  | { readonly kind: "ready" }
  /** It cannot start, in words for the operator; it ends by itself. */
  | { readonly kind: "failed"; readonly message: string }
  /** Its figures, as they were asked for. */
  | { readonly kind: "metrics"; readonly id: number; readonly metrics: readonly Metric[] }
  /** It is stopping by itself: no connection for it any more. */
  | { readonly kind: "stopping" }
  /** A connection is its own from here on. */
  | { readonly kind: "taken"; readonly id: number }
  /** It was stopping: the connection is to be another's. */
  | { readonly kind: "refused"; readonly id: number }
  /** One of the connections that it took has ended. */
  | { readonly kind: "ended" };
