import { flag, searchOf, text } from "../../search.ts";

export const logsSearch = searchOf({
  service: text,
  method: text,
  code: text,
  key: text,
  errors: flag,
  row: text,
  page: text,
});
