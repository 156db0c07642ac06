import { ranges } from "../../parts/range.ts";
import { oneOf, searchOf } from "../../search.ts";

export const overviewSearch = searchOf({ range: oneOf(ranges) });
