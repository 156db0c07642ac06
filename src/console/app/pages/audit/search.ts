import { searchOf, text } from "../../search.ts";

export const auditSearch = searchOf({ page: text });
