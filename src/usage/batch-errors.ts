/** Why a batch is not written: whether to try again, or to look for the row that is to blame. */
import { sqlState } from "../db/client.ts";

/** So often in a row a batch is tried again for {@link isWrongPartition}, before its rows are suspected. */
export const maxMisses = 3;

/** A row's partition was attached while it was on its way to the default one. The next try finds it. */
export function isWrongPartition(error: unknown): boolean {
  return sqlState(error) === "23514";
}

/**
 * Whether it is the values themselves that cannot be written, so that trying again
 * cannot help: Postgres refused them (classes 22, 23 and 54), or they are more than
 * Node can put into one statement.
 */
export function isAboutTheData(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) {
    if (e instanceof RangeError || e instanceof TypeError) return true;
  }
  return /^(2[23]|54)/.test(sqlState(error) ?? "");
}
