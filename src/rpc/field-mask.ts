/** Field masks of update requests (AIP-134): which fields a request changes. */
import type { FieldMask } from "@bufbuild/protobuf/wkt";
import { invalid } from "./validate.ts";

/**
 * The fields that a mask names, of those that can be changed. Throws
 * `invalid_argument` for a mask that names none and for a path that is not one of
 * `paths`.
 */
export function readMask<const P extends string>(mask: FieldMask | undefined, paths: readonly P[]): Set<P> {
  const named = mask?.paths ?? [];
  const known = new Set<string>(paths);
  const unknown = named.find((path) => !known.has(path));
  if (unknown !== undefined) {
    const shown = JSON.stringify(unknown.slice(0, 100));
    throw invalid(`update_mask names ${shown}, which cannot be changed: it takes ${paths.join(", ")}`);
  }
  if (named.length === 0) throw invalid(`update_mask must name what changes: ${paths.join(", ")}`);
  return new Set(named as P[]);
}
