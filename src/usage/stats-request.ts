/** Reads what requests for statistics ask for. Each throws `invalid_argument`. */
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import type { Principal } from "../auth/principal.ts";
import {
  StatsDimension,
  type StatsFilter as StatsFilterMessage,
} from "../gen/latchkey/v1/stats_service_pb.js";
import { readCode } from "../rpc/code-name.ts";
import { checkText, checkTime, checkUuid, invalid } from "../rpc/validate.ts";
import { visibleUser } from "../rpc/visible-user.ts";
import { dayMs, hourMs, minuteMs, minutesKeptMs, type TimeRange, widen } from "./range.ts";
import type { Dimension, StatsFilter } from "./stats-store.ts";

const limits = { fallback: 10, most: 100 };
const maxNameLength = 500;
const longestMs = 400 * dayMs;
/** What a step and a widened range may not reach beyond. */
const years = { firstMs: Date.UTC(1970), lastMs: Date.UTC(9990) };
const defaultStepsMs = [minuteMs, 5 * minuteMs, 15 * minuteMs, hourMs, 6 * hourMs, dayMs];
const maxSteps = { fallback: 200, most: 2000 };
const maxPoints = 20_000;
/** Of minutes, which a step that is not whole hours needs: about as many rollups as of 30 days of hours. */
const longestOfMinutesMs = 3 * dayMs;

const dimensions: Readonly<Record<number, Dimension>> = {
  [StatsDimension.SERVICE]: "service",
  [StatsDimension.METHOD]: "method",
  [StatsDimension.CODE]: "code",
  [StatsDimension.DENIAL_REASON]: "denialReason",
  [StatsDimension.KEY]: "key",
  [StatsDimension.USER]: "user",
};

/** The filter, of what the caller may see. Throws `permission_denied` for another user's. */
export function readFilter(filter: StatsFilterMessage | undefined, principal: Principal): StatsFilter {
  const { userId = 0n, apiKeyId = "", service = "", method = "", code = "" } = filter ?? {};
  return {
    userId: visibleUser(userId, principal),
    apiKeyId: apiKeyId === "" ? undefined : checkUuid("api_key_id", apiKeyId),
    service: checkText("service", service, maxNameLength) || undefined,
    method: checkText("method", method, maxNameLength) || undefined,
    code: code === "" ? undefined : readCode(code),
  };
}

/** The range, widened to the whole minutes or hours that there are of it. */
export function readRange(
  request: { startTime?: Timestamp | undefined; endTime?: Timestamp | undefined },
  nowMs: number,
): TimeRange {
  if (request.startTime === undefined || request.endTime === undefined) {
    throw invalid("start_time and end_time must both be set: the range to sum up");
  }
  const startMs = checkTime("start_time", request.startTime).getTime();
  const endMs = checkTime("end_time", request.endTime, "up").getTime();
  if (startMs < years.firstMs) throw invalid("start_time must not be before 1970");
  if (endMs > years.lastMs) throw invalid("end_time must be before the year 9990");
  if (endMs < startMs) throw invalid("end_time must not be before start_time");
  if (endMs - startMs > longestMs) throw invalid("the range must not be longer than 400 days");
  return widen({ startMs, endMs }, hasMinutes(startMs, nowMs) ? minuteMs : hourMs);
}

function hasMinutes(startMs: number, nowMs: number): boolean {
  return startMs >= nowMs - minutesKeptMs;
}

/** The step of a time series, and the range, widened to whole steps. */
export function readSteps(
  step: Duration | undefined,
  range: TimeRange,
  nowMs: number,
): { stepMs: number; range: TimeRange } {
  if (step === undefined) {
    const fitting = defaultStepsMs.find((ms) => {
      const steps = widen(range, ms);
      return countSteps(steps, ms) <= maxSteps.fallback && isKept(steps, ms, nowMs);
    });
    const stepMs = fitting ?? dayMs;
    return { stepMs, range: widen(range, stepMs) };
  }
  const stepMs = Number(step.seconds) * 1000;
  if (step.nanos !== 0 || stepMs <= 0 || stepMs % minuteMs !== 0) {
    throw invalid("step must be whole minutes, 1 or more; unset, it is chosen");
  }
  if (stepMs > longestMs) throw invalid("step must not be longer than 400 days");
  const steps = widen(range, stepMs);
  if (countSteps(steps, stepMs) > maxSteps.most) {
    throw invalid(
      `the range has ${countSteps(steps, stepMs)} steps: choose a longer one, of at most ${maxSteps.most}`,
    );
  }
  if (!isKept(steps, stepMs, nowMs)) {
    throw invalid("step must be whole hours where the range begins more than 30 days ago: minutes are gone");
  }
  if (stepMs % hourMs !== 0 && steps.endMs - steps.startMs > longestOfMinutesMs) {
    throw invalid("step must be whole hours where the range is longer than 3 days");
  }
  return { stepMs, range: steps };
}

function countSteps({ startMs, endMs }: TimeRange, stepMs: number): number {
  return (endMs - startMs) / stepMs;
}

function isKept(range: TimeRange, stepMs: number, nowMs: number): boolean {
  return stepMs % hourMs === 0 || hasMinutes(range.startMs, nowMs);
}

/** Bounds the work and the answer of a time series: so many series of so many steps. */
export function checkPoints(series: number, steps: number): void {
  if (series * steps <= maxPoints) return;
  throw invalid(
    `${series} series of ${steps} steps are more than ${maxPoints} points: choose a longer step or a lower limit`,
  );
}

/** What to divide by; undefined: nothing. */
export function readDimension(dimension: StatsDimension): Dimension | undefined {
  if (dimension === StatsDimension.UNSPECIFIED) return undefined;
  const read = dimensions[dimension];
  if (read === undefined) throw invalid(`group_by ${dimension} is none of StatsDimension`);
  return read;
}

/** How many groups or series. */
export function readLimit(limit: number): number {
  if (limit < 0) {
    throw invalid(
      `limit must not be negative: 0 means ${limits.fallback}, at most ${limits.most} are returned`,
    );
  }
  return Math.min(limit || limits.fallback, limits.most);
}
