import { searchOf, text } from "../../search.ts";

export const tryItSearch = searchOf({ page: text });
