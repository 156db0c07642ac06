import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type ApiKey, ApiKeyStatus } from "../../../gen/latchkey/v1/api_key_service_pb.js";
import classes from "./expiry.module.css";
import { Time } from "./time.tsx";
import { useNow } from "./use-now.ts";

const soonMs = 14 * 86_400_000;

/** When a key expires; an active one that soon does stands out, a revoked one has no need to. */
export function Expiry({ of: { expiresAt, status } }: { of: Pick<ApiKey, "expiresAt" | "status"> }) {
  const now = useNow();
  const soon =
    expiresAt !== undefined && status === ApiKeyStatus.ACTIVE && timestampMs(expiresAt) - now < soonMs;
  return (
    <span className={soon ? classes.soon : undefined}>
      {status === ApiKeyStatus.REVOKED ? <Time value={undefined} /> : <Time value={expiresAt} none="Never" />}
    </span>
  );
}
