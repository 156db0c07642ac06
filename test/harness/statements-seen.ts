/** What Postgres was asked to do in one database. Other files of tests look at others, at the same time. */
import type postgres from "postgres";

export interface StatementSeen {
  readonly query: string;
  readonly calls: number;
}

/** From now on statements are seen; those before are forgotten. */
export async function watchStatements(sql: postgres.Sql): Promise<void> {
  await sql`CREATE EXTENSION IF NOT EXISTS pg_stat_statements`;
  await sql`
    SELECT pg_stat_statements_reset(dbid => oid) FROM pg_database WHERE datname = current_database()`;
}

/** Those since then, but for what looks at them: a prepared one is found by its own pattern. */
export async function statementsSeen(sql: postgres.Sql): Promise<StatementSeen[]> {
  return sql<StatementSeen[]>`
    SELECT query, calls::int FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND query NOT LIKE '%pg_stat_statements%'`;
}

/** How often keys were looked up since then. */
export async function lookupsSeen(sql: postgres.Sql): Promise<number> {
  const lookups = (await statementsSeen(sql)).filter(({ query }) =>
    query.includes('"api_keys"."hash" = ANY'),
  );
  return lookups.reduce((sum, { calls }) => sum + calls, 0);
}
