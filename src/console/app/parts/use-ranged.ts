/** Statistics of a range that ends now, asked for again and again while somebody looks. */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { callUnaryMethod, createConnectQueryKey, useTransport } from "@connectrpc/connect-query";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useLiveInterval } from "./live.ts";
import { type Range, rangeUpTo } from "./range.ts";

/** The longer the range, the less one moment changes it. */
const everyMs: Record<Range, number> = {
  "15m": 10_000,
  "1h": 20_000,
  "6h": 30_000,
  "24h": 60_000,
  "7d": 300_000,
  "30d": 600_000,
};

/**
 * The answer of a method that takes a start and an end time. `before` asks for the
 * range before this one, to compare with; `live` is how often to ask, in milliseconds.
 */
export function useRanged<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  range: Range,
  input: MessageInitShape<I>,
  { before = 0, live = everyMs[range] }: { before?: number; live?: number } = {},
) {
  const transport = useTransport();
  const key = createConnectQueryKey({ schema: method, transport, input, cardinality: "finite" });
  return useQuery({
    queryKey: [...key, range, before],
    queryFn: ({ signal }): Promise<MessageShape<O>> => {
      const times = rangeUpTo(range, Date.now() - before);
      return callUnaryMethod(transport, method, { ...input, ...times } as MessageInitShape<I>, { signal });
    },
    placeholderData: keepPreviousData,
    refetchInterval: useLiveInterval(live),
  });
}
