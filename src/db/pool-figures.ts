/** What is known of a server's connections. In a file of its own: programs import it, and with it nothing of postgres.js. */

export interface PoolFigures {
  readonly purpose: string;
  /** Open, or being opened; undefined where a program's own sockets are used. */
  readonly connections: number | undefined;
  readonly max: number;
  /** Statements and transactions under way; those above `max` wait for a connection. */
  readonly statements: number;
}
