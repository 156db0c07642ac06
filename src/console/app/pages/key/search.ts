import { ranges } from "../../parts/range.ts";
import { oneOf, searchOf } from "../../search.ts";

export const keySearch = searchOf({ range: oneOf(ranges) });
