/** Which fields a request changes. */
import type { FieldMask } from "@bufbuild/protobuf/wkt";
import { invalid } from "./validate.ts";

/**
 * The paths that a mask names, of those that can be changed. Throws
 * `invalid_argument` for a mask that is missing or empty and for a path that is
 * none of them.
 */
export function readMask<const P extends string>(mask: FieldMask | undefined, paths: readonly P[]): Set<P> {
  const choice = `${paths.slice(0, -1).join(", ")}${paths.length > 1 ? " or " : ""}${paths.at(-1) ?? ""}`;
  if (mask === undefined || mask.paths.length === 0) {
    throw invalid(`update_mask must name what to change: ${choice}`);
  }
  const named = new Set<P>();
  for (const path of mask.paths) {
    const known = paths.find((one) => one === path);
    if (known === undefined) {
      throw invalid(
        `update_mask names ${JSON.stringify(path.slice(0, 50))}, which cannot be changed: only ${choice}`,
      );
    }
    named.add(known);
  }
  return named;
}
