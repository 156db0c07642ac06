/** Why calls failed: where the verdict refused them, its reason, otherwise their code. */
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import {
  type StatsBreakdown,
  StatsDimension,
  StatsService,
} from "../../../gen/latchkey/v1/stats_service_pb.js";
import { DenialReason } from "../../../gen/latchkey/v1/verdict_pb.js";
import type { Bar } from "./bars.tsx";
import type { Range } from "./range.ts";
import { useRanged } from "./use-ranged.ts";
import { denialHelp, denialWords } from "./words.ts";

/** Of everyone's calls, or of one key's; those of the console are among them. */
export function useFailureReasons(range: Range, apiKeyId?: string) {
  const input = { filter: { apiKeyId: apiKeyId ?? "" }, limit: 20 };
  const { getBreakdown } = StatsService.method;
  const codes = useRanged(getBreakdown, range, { ...input, groupBy: StatsDimension.CODE });
  const denials = useRanged(getBreakdown, range, { ...input, groupBy: StatsDimension.DENIAL_REASON });
  const isLoaded = codes.data !== undefined && denials.data !== undefined;
  const bars = useMemo(() => {
    if (codes.data === undefined || denials.data === undefined) return undefined;
    const search = { range, console: "1", ...(apiKeyId === undefined ? {} : { key: apiKeyId }) } as const;
    return [
      ...denials.data.groups.map((each) => denialBar(each, search)),
      ...codes.data.groups.map((each) => codeBar(each, search)),
    ]
      .filter((bar) => bar !== undefined)
      .sort((a, b) => Number(b.count - a.count));
  }, [codes.data, denials.data, range, apiKeyId]);
  return {
    bars,
    error: isLoaded ? null : (codes.error ?? denials.error),
    retry: () => {
      void codes.refetch();
      void denials.refetch();
    },
  };
}

interface Search {
  readonly range: Range;
  readonly console: "1";
  readonly key?: string;
}

function denialBar({ group, stats }: StatsBreakdown, search: Search): Bar | undefined {
  const reason = group?.denialReason ?? DenialReason.UNSPECIFIED;
  if (reason === DenialReason.UNSPECIFIED) return undefined;
  return {
    key: `denial ${reason}`,
    name: (
      <Link to="/logs" search={{ ...search, reason: DenialReason[reason] }} title={denialHelp[reason]}>
        {denialWords[reason]}
      </Link>
    ),
    count: stats?.requests ?? 0n,
  };
}

/** Those of a code that the verdict let in. */
function codeBar({ group, stats }: StatsBreakdown, search: Search): Bar | undefined {
  const { code = "" } = group ?? {};
  const count = (stats?.errors ?? 0n) - (stats?.denials ?? 0n);
  if (count <= 0n) return undefined;
  return {
    key: `code ${code}`,
    name: (
      <Link to="/logs" search={{ ...search, code }} className="mono">
        {code}
      </Link>
    ),
    count,
  };
}
