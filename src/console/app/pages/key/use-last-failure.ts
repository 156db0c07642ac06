import { useQuery } from "@connectrpc/connect-query";
import { type RequestLog, RequestLogService } from "../../../../gen/latchkey/v1/request_log_service_pb.js";
import { useLiveInterval } from "../../parts/live.ts";

/** The last call of a key that failed, as far as the request log goes back; undefined while it loads too. */
export function useLastFailure(apiKeyId: string, isWanted = true): RequestLog | undefined {
  const { data } = useQuery(
    RequestLogService.method.listRequestLogs,
    { filter: { apiKeyId, errorsOnly: true }, pageSize: 1 },
    { refetchInterval: useLiveInterval(15_000), enabled: isWanted },
  );
  return data?.requestLogs[0];
}
