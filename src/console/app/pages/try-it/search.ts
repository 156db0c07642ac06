import { searchOf, text } from "../../search.ts";

/** The method as "SERVICE/METHOD". */
export const tryItSearch = searchOf({ method: text });
