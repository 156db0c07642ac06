/** Rows of the request log as CSV that come one after the other: the same file that the server's export makes. */
import type { DescField } from "@bufbuild/protobuf";
import {
  type Duration,
  DurationSchema,
  type Timestamp,
  TimestampSchema,
  timestampDate,
} from "@bufbuild/protobuf/wkt";
import { stringify } from "csv-stringify/sync";
import { type RequestLog, RequestLogSchema } from "../gen/latchkey/v1/request_log_service_pb.js";

const csvOptions = { record_delimiter: "windows", quoted_match: /[\r\n]/, escape_formulas: true } as const;

/** Creates what makes lines of rows; the first comes with a line of names. */
export function csvPrinter(): (rows: readonly RequestLog[]) => string {
  let head = [RequestLogSchema.fields.map(({ name }) => name)];
  return (rows) => {
    const lines = [...head, ...rows.map((row) => RequestLogSchema.fields.map((field) => cell(row, field)))];
    head = [];
    return stringify(lines, csvOptions);
  };
}

function cell(row: RequestLog, field: DescField): string {
  const value = (row as unknown as Record<string, unknown>)[field.localName];
  if (field.fieldKind === "enum") {
    // None of them is told by its absence.
    return value === 0 ? "" : (field.enum.value[Number(value)]?.localName ?? String(value));
  }
  if (field.fieldKind === "message") {
    if (value === undefined) return "";
    if (field.message.typeName === TimestampSchema.typeName) return timeText(value as Timestamp);
    if (field.message.typeName === DurationSchema.typeName) return secondsText(value as Duration);
  }
  // An id that is 0 stands for nobody; a count that is 0 is one.
  return value === 0n && field.name === "user_id" ? "" : String(value);
}

function timeText(time: Timestamp): string {
  const seconds = timestampDate(time).toISOString().slice(0, 19);
  return `${seconds}.${String(Math.floor(time.nanos / 1000)).padStart(6, "0")}Z`;
}

function secondsText({ seconds, nanos }: Duration): string {
  return `${seconds}.${String(Math.floor(nanos / 1000)).padStart(6, "0")}`;
}
