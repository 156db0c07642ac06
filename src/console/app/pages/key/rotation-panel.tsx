/** While a key is being replaced: the traffic of the old and the new one, and whether the old one can end. */
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { useQuery } from "@connectrpc/connect-query";
import { Button } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ApiKey, ApiKeyService, ApiKeyStatus } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { StatsDimension, StatsService } from "../../../../gen/latchkey/v1/stats_service_pb.js";
import { DenialReason } from "../../../../gen/latchkey/v1/verdict_pb.js";
import { formatCountOf } from "../../parts/format.ts";
import { useLiveInterval } from "../../parts/live.ts";
import { Panel } from "../../parts/panel.tsx";
import { type Range, rangeMs, rangeWords } from "../../parts/range.ts";
import { Time } from "../../parts/time.tsx";
import { TrafficChart, useMostRequests } from "../../parts/traffic-chart.tsx";
import { useNow } from "../../parts/use-now.ts";
import classes from "./key.module.css";
import { useLastFailure } from "./use-last-failure.ts";

interface RotationPanelProps {
  readonly apiKey: ApiKey;
  readonly range: Range;
  /** Opens the dialog that revokes a key. */
  readonly onRevoke: (apiKey: ApiKey) => void;
}

export function RotationPanel({ apiKey, range, onRevoke }: RotationPanelProps) {
  const isOld = apiKey.rotatedTo !== "";
  const otherId = isOld ? apiKey.rotatedTo : apiKey.rotatedFrom;
  const { data } = useQuery(
    ApiKeyService.method.getApiKey,
    { id: otherId },
    { enabled: otherId !== "", refetchInterval: useLiveInterval(15_000) },
  );
  const other = data?.apiKey;
  if (other === undefined) return null;
  const [older, newer] = isOld ? [apiKey, other] : [other, apiKey];
  const which = isOld ? "This key" : "The key before this one";
  const isActive = older.status === ApiKeyStatus.ACTIVE;
  return (
    <Panel
      title="Rotation"
      actions={
        isActive && (
          <Button size="xs" variant="default" onClick={() => onRevoke(older)}>
            End the old key now
          </Button>
        )
      }
    >
      <div className={classes.rotation}>
        {isActive ? (
          <Advice older={older} newer={newer} which={which} range={range} />
        ) : (
          <Ended older={older} which={which} />
        )}
        <Charts older={older} newer={newer} range={range} />
      </div>
    </Panel>
  );
}

interface PairProps {
  readonly older: ApiKey;
  readonly newer: ApiKey;
  readonly range: Range;
}

/** The requests of both, on one scale. */
function Charts({ older, newer, range }: PairProps) {
  const most = Math.max(useMostRequests(range, older.id), useMostRequests(range, newer.id));
  return (
    <div className={classes.charts}>
      {[older, newer].map((key) => (
        <section key={key.id}>
          <h3>
            {key === older ? "Old key" : "New key"}{" "}
            <Link to="/keys/$id" params={{ id: key.id }} className="mono">
              {key.start}…
            </Link>
          </h3>
          <TrafficChart
            range={range}
            filter={{ apiKeyId: key.id }}
            show="requests"
            of={key === older ? "the old key" : "the new key"}
            height={150}
            top={most}
          />
        </section>
      ))}
    </div>
  );
}

const minuteMs = 60_000;
const ceilToMinute = (ms: number) => Math.ceil(ms / minuteMs) * minuteMs;

/** Up to now, in whole minutes, so that a query stays the same for one. */
function useTimesSince(sinceMs: number) {
  const endMs = Math.max(ceilToMinute(useNow()), sinceMs + minuteMs);
  return { startTime: timestampFromMs(sinceMs), endTime: timestampFromMs(endMs) };
}

/** What is left to do, by whether the old key was used since there is a new one. */
function Advice({ older, newer, which, range }: PairProps & { which: string }) {
  const now = useNow();
  const replacedMs = newer.createdAt === undefined ? 0 : timestampMs(newer.createdAt);
  const rangeStartMs = now - rangeMs[range];
  const isRecent = replacedMs >= rangeStartMs;
  const sinceMs = Math.max(replacedMs, rangeStartMs);
  // Whole minutes are counted: the one in which it was replaced is not, for what came before in it.
  const { data } = useQuery(
    StatsService.method.getOverview,
    { filter: { apiKeyId: older.id }, ...useTimesSince(ceilToMinute(sinceMs)) },
    { placeholderData: keepPreviousData, refetchInterval: useLiveInterval(10_000) },
  );
  const requests = data?.stats?.requests ?? 0n;
  const isUsed = requests > 0n || (older.lastUsedAt !== undefined && timestampMs(older.lastUsedAt) > sinceMs);
  const isFresh = now - replacedMs < rangeMs["15m"];
  const since = isRecent ? "since" : `in the last ${rangeWords[range]}`;
  return (
    <p>
      {which} was replaced on <Time value={newer.createdAt} as="full" /> and{" "}
      {older.expiresAt === undefined ? (
        "does not expire"
      ) : (
        <>
          lives until <Time value={older.expiresAt} as="full" />
        </>
      )}
      .{" "}
      {isUsed ? (
        <>
          It <strong>{requests > 0n ? `made ${formatCountOf(requests, "request")}` : "was used"}</strong>{" "}
          {since}, the last one <Time value={older.lastUsedAt} />: some client has not switched yet.
        </>
      ) : (
        <>
          It made <strong>no requests</strong> {since}
          {older.lastUsedAt !== undefined && (
            <>
              {" "}
              and was last used <Time value={older.lastUsedAt} />
            </>
          )}
          {isFresh ? ": look again once its clients had time to call." : ": it looks safe to end."}
        </>
      )}
    </p>
  );
}

const longestMs = 399 * 24 * 60 * minuteMs;

/** Whether clients still send the token of a key that has ended. */
function Ended({ older, which }: { older: ApiKey; which: string }) {
  const ends = [older.revokedAt, older.expiresAt].filter((time) => time !== undefined).map(timestampMs);
  const oldestMs = ceilToMinute(useNow()) - longestMs;
  const { data } = useQuery(
    StatsService.method.getBreakdown,
    {
      filter: { apiKeyId: older.id },
      groupBy: StatsDimension.DENIAL_REASON,
      limit: 20,
      ...useTimesSince(Math.max(Math.min(...ends), oldestMs)),
    },
    { placeholderData: keepPreviousData, refetchInterval: useLiveInterval(10_000) },
  );
  // For these reasons nothing was refused before.
  const refused = (data?.groups ?? [])
    .filter(({ group }) => endedReasons.includes(group?.denialReason ?? DenialReason.UNSPECIFIED))
    .reduce((sum, { stats }) => sum + (stats?.requests ?? 0n), 0n);
  const last = useLastFailure(older.id, refused > 0n);
  const reason = older.status === ApiKeyStatus.REVOKED ? "REVOKED" : "EXPIRED";
  if (data === undefined) return <p>{which} has ended.</p>;
  if (refused === 0n) return <p>{which} has ended: the rotation is complete.</p>;
  return (
    <p>
      {which} has ended.{" "}
      <Link to="/logs" search={{ key: older.id, reason }}>
        {formatCountOf(refused, "call")}
      </Link>{" "}
      with the old token {refused === 1n ? "was" : "were"} refused since
      {last !== undefined && (
        <>
          , the last one <Time value={last.time} />
        </>
      )}
      : some client has not switched.
    </p>
  );
}

const endedReasons: readonly DenialReason[] = [DenialReason.REVOKED, DenialReason.EXPIRED];
