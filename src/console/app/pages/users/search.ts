import { searchOf, text } from "../../search.ts";

export const usersSearch = searchOf({ page: text });
