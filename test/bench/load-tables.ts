/** The tables of calls a second. */
import type { Protocol } from "./echo.ts";
import type { Peer } from "./peers.ts";
import type { Results } from "./results.ts";
import { type Shape, shapes } from "./shapes.ts";
import { spread } from "./statistics.ts";
import { figure, table } from "./table.ts";

/** Above this, it is the load that could do no more. */
const fullShare = 0.97;
/** A peer that answers nobody for longer after a load shows it. */
const silentMs = 1000;

/** Tables of one protocol: calls a second, their ratios to some peers, and latencies. */
export function loadTables(protocol: Protocol, all: readonly Peer[], results: Results): string {
  const peers = all.filter(({ protocols }) => protocols.includes(protocol));
  const columns = shapes[protocol];
  const which = (peer: Peer, shape: Shape, value: string) => ({
    ...{ section: protocol, subject: peer.id, variant: shape.id, value },
  });
  const rowsOf = (cell: (peer: Peer, shape: Shape) => string) =>
    peers.map((peer) => [peer.name, ...columns.map((shape) => cell(peer, shape))]);
  const head = (title: string) => [title, ...columns.map(({ id }) => id)];

  const rates = rowsOf((peer, shape) => {
    const median = (value: string) => results.median(which(peer, shape, value));
    // Of all rounds: in a median, those that went wrong once would not show.
    const [failed, ok] = ["failed", "ok"].map((value) => sum(results.series(which(peer, shape, value))));
    const unanswered = (failed ?? 0) / ((failed ?? 0) + (ok ?? 0));
    const marks = [
      unanswered > 0 ? ` (${figure(unanswered * 100)} % not answered ok)` : "",
      median("silentMs") > silentMs ? ` (and silent for ${figure(median("silentMs") / 1000)} s)` : "",
      median("loadShare") > fullShare ? "*" : "",
    ];
    return figure(median("perS")) + marks.join("");
  });
  const others = peers.flatMap((peer) =>
    columns.map((shape) => results.median(which(peer, shape, "othersShare"))),
  );
  const spreads = peers.flatMap((peer) =>
    columns.map((shape) => spread(results.series(which(peer, shape, "perS")))),
  );
  const most = (values: number[]) => figure(100 * Math.max(...values.filter(Number.isFinite)));
  return [
    table(head(`${protocol}: calls/s`), rates),
    "",
    "Columns: connections x calls at once on each.",
    `*: the load's processors were ${fullShare * 100} % busy or more: it may be the load that could do no more.`,
    `Others took at most ${most(others)} % of the server's processor; the quartiles of the rounds lie at most ${most(spreads)} % apart.`,
    "",
    ...referencesOf(protocol, peers).flatMap((reference) => [
      table(
        head(`${protocol}: × ${reference.name}`),
        rowsOf((peer, shape) =>
          figure(results.ratio(which(peer, shape, "perS"), which(reference, shape, "perS"))),
        ),
      ),
      "",
    ]),
    table(
      head(`${protocol}: ms, p50 / p99`),
      rowsOf((peer, shape) =>
        ["p50Ms", "p99Ms"].map((value) => figure(results.median(which(peer, shape, value)))).join(" / "),
      ),
    ),
    ...(protocol === "json"
      ? ["", "As wrk corrects them: an answer that took long stands also for calls due meanwhile."]
      : []),
    "",
    table(
      head(`${protocol}: calls a second of the server's processor time`),
      rowsOf((peer, shape) => figure(results.median(which(peer, shape, "perServerS")))),
    ),
    "",
    table(
      head(`${protocol}: seconds after the load until its log is laid out`),
      rowsOf((peer, shape) => figure(results.median(which(peer, shape, "laidOutS")))).filter(
        (_, n) => peers[n]?.countsPerCall === 1,
      ),
    ),
    "",
    table(
      head(`${protocol}: processor of the server / of the load, %`),
      rowsOf((peer, shape) =>
        ["serverShare", "loadShare"]
          .map((value) => figure(100 * results.median(which(peer, shape, value))))
          .join(" / "),
      ),
    ),
  ].join("\n");
}

function sum(values: readonly number[]): number {
  return values.filter(Number.isFinite).reduce((a, b) => a + b, 0);
}

/** Whom the others are held against. */
function referencesOf(protocol: Protocol, peers: readonly Peer[]): Peer[] {
  const ids = protocol === "grpc" ? ["stock", "grpc-js", "http2"] : ["stock", "fastify", "http"];
  return ids.flatMap((id) => peers.filter((peer) => peer.id === id));
}
