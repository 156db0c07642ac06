import { searchOf, text } from "../../search.ts";

export const logsSearch = searchOf({ page: text });
