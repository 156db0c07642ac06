/** Ids of calls. */
import { randomFillSync } from "node:crypto";
import { v7 } from "uuid";

const bytesOfAnId = 16;
/** Random bytes are cheaper by the page than by the id. */
const pool = new Uint8Array(256 * bytesOfAnId);
let used = pool.length;

/** A UUIDv7. */
export function createCallId(): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const random = pool.subarray(used, used + bytesOfAnId);
  used += bytesOfAnId;
  return v7({ random });
}
