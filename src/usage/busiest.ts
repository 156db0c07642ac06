/** The keys and users with the most requests of a range, found without looking at every one. */
import { type SQL, sql } from "drizzle-orm";
import type { Executor } from "../db/client.ts";
import { keyRollups, rollupTops } from "../db/schema.ts";
import { hourMs, minuteMs, type Piece, type TimeRange } from "./range.ts";
import { rollupsOf, timestamp } from "./rollup-sql.ts";

/** Ranges up to this long are summed up over every key. */
const longestDirectMs = 6 * hourMs;
/** Looked at under a filter that the lists know nothing of. */
const filteredCandidates = 500;

/**
 * Whether keys and users are found by the lists of the busiest, `rollup_tops`, so
 * that the range must be of whole hours: not where they are few, as those of one
 * user are, nor where the range is short.
 */
export function readsTops(
  filter: { userId?: bigint | undefined; apiKeyId?: string | undefined },
  { startMs, endMs }: TimeRange,
): boolean {
  return filter.userId === undefined && filter.apiKeyId === undefined && endMs - startMs > longestDirectMs;
}

/**
 * Finds who may be among those with the most requests: `condition` lets them through.
 * Who is not among them had at most `mostOfOthers` requests.
 *
 * After Fagin's threshold algorithm: an hour or day in which somebody is listed says
 * how many requests these were, and any other how many they can have been at most.
 * The minutes that are not folded yet are looked at all.
 */
export async function findBusiest(
  tx: Executor,
  options: { by: "key" | "user"; pieces: readonly Piece[]; limit: number; isFiltered: boolean },
): Promise<{ condition: SQL; mostOfOthers: bigint }> {
  const { by, pieces, limit, isFiltered } = options;
  const id = sql.raw(by === "key" ? "api_key_id" : "user_id");
  const isMinutes = ({ periodS }: Piece) => periodS === minuteMs / 1000;
  const tops = pieces.filter((piece) => !isMinutes(piece));
  const minutes = pieces.filter(isMinutes);
  // Those with the most for certain, and then those who can have had as many.
  const [most, possible] = isFiltered ? [filteredCandidates, 0] : [limit, 2 * limit];
  const [found] = await tx.execute<{ ids: string[] | null; others: string }>(sql`
    WITH tops AS (${listsOf(by, tops)}),
    seen AS (
      SELECT ${id} AS id, requests, rest FROM tops
      UNION ALL
      SELECT ${id}, requests, 0 FROM (${rollupsOf(keyRollups, minutes)}) AS minutes
    ),
    unlisted AS (SELECT coalesce(sum(rest), 0) AS most FROM tops WHERE rank = 1),
    bounds AS (
      SELECT id, sum(requests) AS least, sum(requests) + unlisted.most - sum(rest) AS most
      FROM seen CROSS JOIN unlisted GROUP BY id, unlisted.most
    ),
    enough AS (SELECT least FROM bounds ORDER BY least DESC OFFSET ${limit - 1} LIMIT 1),
    ranked AS (
      SELECT id, bounds.most, row_number() OVER (ORDER BY bounds.least DESC, id) <= ${most}
        OR row_number() OVER (ORDER BY bounds.most DESC, id) <= ${possible}
          AND bounds.most >= coalesce(enough.least, 0) AS is_candidate
      FROM bounds LEFT JOIN enough ON true
    )
    SELECT array_agg(id::text) FILTER (WHERE is_candidate) AS ids,
      greatest(max(most) FILTER (WHERE NOT is_candidate), (SELECT most FROM unlisted)) AS others
    FROM ranked`);
  const ids = sql`${sql.param(found?.ids ?? [])}::${sql.raw(by === "key" ? "uuid" : "bigint")}[]`;
  return { condition: sql`${id} = ANY (${ids})`, mostOfOthers: BigInt(found?.others ?? 0) };
}

function listsOf(by: "key" | "user", pieces: readonly Piece[]): SQL {
  if (pieces.length === 0) return sql`SELECT * FROM ${rollupTops} WHERE false`;
  return sql.join(
    pieces.map(
      ({ periodS, startMs, endMs }) => sql`
        SELECT * FROM ${rollupTops} WHERE kind = ${by} AND period_s = ${periodS}
          AND bucket >= ${timestamp(startMs)} AND bucket < ${timestamp(endMs)}`,
    ),
    sql` UNION ALL `,
  );
}
