import { searchOf, text } from "../../search.ts";

export const auditSearch = searchOf({ key: text, page: text });
