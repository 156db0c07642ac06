/** What a program gives beside the settings. Apart, so that its types need nothing of the database library. */
import type { TracerProvider } from "@opentelemetry/api";
import type postgres from "postgres";

/** What only a program can give. */
export interface ProgramOptions {
  /**
   * A postgres.js client that says where the database is and how to connect to it, in place of
   * `databaseUrl`. It is only read: Latchkey's own connections are opened besides (see README,
   * "Many instances", for how many), and the client is neither used nor ended.
   */
  sql?: postgres.Sql;
  /** Where the log goes, a JSON line each; default standard error. */
  logStream?: {
    /** Takes a line, its line break included. */
    write(line: string): void;
  };
  /** Makes a span of each RPC; default: the provider that is registered with `@opentelemetry/api`, while there is one. */
  tracerProvider?: TracerProvider;
  /** Told of what takes a while at the start, for people. */
  onProgress?: (message: string) => void;
}
