/** SELECT + UPDATE + INSERT for each verdict, in process. */
import { createSqlKeys } from "../peers/sql-guard.ts";
import { inTurn, uniformDraws } from "./draws.ts";
import { drive } from "./drive.ts";
import type { StartSubject } from "./subject.ts";

/** More than there are connections: none of them waits. */
const lanes = 32;

export const start: StartSubject = async ({ databaseUrl, options }) => {
  const { tokens, verify, close } = await createSqlKeys(databaseUrl, Number(options.keys));
  const next = inTurn(uniformDraws(tokens.length));
  const ask = async () => {
    if ((await verify(tokens[next()] as string, "Echo")) === undefined) throw new Error("nobody was let in");
  };
  return { measure: (seconds) => drive({ seconds, lanes, ask }), close };
};
