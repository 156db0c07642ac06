/** The peers: who is measured, in what, and what each is told. */
import { withDefaults } from "../../src/config.ts";
import type { Protocol } from "./echo.ts";

export interface Peer {
  /** What `--peers` calls it, and the JSON. */
  readonly id: string;
  /** What the table calls it. */
  readonly name: string;
  readonly protocols: readonly Protocol[];
  /** The file in peers/. */
  readonly module: string;
  readonly options?: Readonly<Record<string, unknown>>;
  /** It has a database of its own. */
  readonly database?: true;
  /** Its calls are counted, and the counts held against the answers: so many per call. */
  readonly countsPerCall?: 0 | 1;
  /** It writes to the database for each call: a flood would take it minutes. */
  readonly slow?: true;
}

const both: readonly Protocol[] = ["grpc", "json"];

const all: readonly Peer[] = [
  { id: "http2", name: "node:http2, the floor", protocols: ["grpc"], module: "node-http2" },
  { id: "http", name: "node:http, the floor", protocols: ["json"], module: "node-http" },
  { id: "fastify", name: "Fastify, a JSON route", protocols: ["json"], module: "fastify-route" },
  { id: "grpc-js", name: "@grpc/grpc-js", protocols: ["grpc"], module: "grpc-js" },
  { id: "stock", name: "@connectrpc/connect-fastify", protocols: both, module: "connect-fastify" },
  {
    ...{ id: "stock-sql", name: "connect-fastify, SELECT + UPDATE + INSERT", protocols: both },
    ...{ module: "connect-fastify", database: true, slow: true, options: { guard: "sql-guard" } },
  },
  {
    ...{ id: "stock-better-auth", name: "connect-fastify, better-auth's API keys", protocols: both },
    ...{ module: "connect-fastify", database: true, slow: true, options: { guard: "better-auth-guard" } },
  },
  latchkey("off", "Latchkey, everything off", { authEnabled: false, unrecorded: true }, 0),
  latchkey("auth", "Latchkey, authentication", { unrecorded: true }, 0),
  latchkey("batched", "Latchkey, authentication, counts and log", {}, 1),
  latchkey("strict", "the same, strict", { usageDurability: "strict" }, 1),
  latchkey("batched-stock", "the same, batched, without the lean path", { leanUnary: false }, 1),
];

/** Those that this version of the server can be: one that has no lean path cannot leave it out. */
export const peers = all.filter(
  ({ options = {} }) => !("leanUnary" in options) || "leanUnary" in withDefaults({}),
);

function latchkey(id: string, name: string, options: Record<string, unknown>, countsPerCall: 0 | 1): Peer {
  return { id, name, options, countsPerCall, protocols: both, module: "latchkey", database: true };
}
