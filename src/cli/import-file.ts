/** A file of keys of another system: CSV with a line of names, or one JSON object a line. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { InvalidArgumentError } from "commander";
import { CsvError, parse } from "csv-parse/sync";
import { hashToken, isForeignToken } from "../auth/token.ts";
import { ApiKeyTypeSchema, type ImportedApiKeySchema } from "../gen/latchkey/v1/api_key_service_pb.js";
import { exitCodes, Failure } from "./failure.ts";
import { enumText, enumTexts, enumValue } from "./output.ts";
import { parseExpiry, parsePast } from "./times.ts";

export interface FileKey {
  /** Where it stands in the file. */
  readonly line: number;
  /** As the file has it: an id or a username. */
  readonly user: string;
  readonly key: Omit<MessageInitShape<typeof ImportedApiKeySchema>, "userId" | "$typeName" | "$unknown">;
}

export type Format = "csv" | "ndjson";

/** What the columns, and the fields of a JSON object, may be called. */
export const columns = [
  "token",
  "hash",
  "user",
  "user_id",
  "name",
  "description",
  "type",
  "start",
  "expires_at",
  "allowed_methods",
  "allowed_addresses",
  "created_at",
  "last_used_at",
] as const;

type Fields = Partial<Record<(typeof columns)[number], unknown>>;

/** Reads the keys of a file. Fails at the first line that is not as it should be; tokens are not repeated. */
export function readImportFile(text: string, format: Format): FileKey[] {
  const records = format === "csv" ? csvRecords(text) : jsonRecords(text);
  return records.map(({ line, fields }) => {
    try {
      return readKey(line, fields);
    } catch (error) {
      if (error instanceof InvalidArgumentError) throw wrong(line, error.message);
      throw error;
    }
  });
}

function wrong(line: number, message: string): Failure {
  return new Failure(`line ${line}: ${message}`, exitCodes.usage);
}

function csvRecords(text: string): { line: number; fields: Fields }[] {
  try {
    const rows = parse(text, {
      bom: true,
      columns: (names: string[]) => names.map((name) => checkName(1, name)),
      info: true,
      skip_empty_lines: true,
      trim: true,
    }) as unknown as { record: Fields; info: { lines: number } }[];
    return rows.map(({ record, info }) => ({ line: info.lines, fields: record }));
  } catch (error) {
    if (error instanceof CsvError) throw wrong(Number(error.lines ?? 1), `this is not CSV (${error.code})`);
    throw error;
  }
}

function jsonRecords(text: string): { line: number; fields: Fields }[] {
  return text.split("\n").flatMap((source, i) => {
    if (source.trim() === "") return [];
    const line = i + 1;
    let value: unknown;
    try {
      value = JSON.parse(source);
    } catch {
      // What the parser says repeats the text, and with it a token.
      throw wrong(line, "this is not JSON");
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw wrong(line, "this is not a JSON object");
    }
    const fields = Object.entries(value).map(([name, field]) => [checkName(line, name), field] as const);
    return [{ line, fields: Object.fromEntries(fields) as Fields }];
  });
}

/** Names as the proto has them, or as its JSON form does. */
function checkName(line: number, name: string): string {
  const snake = name.trim().replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  if ((columns as readonly string[]).includes(snake)) return snake;
  throw wrong(
    line,
    `there is no column ${JSON.stringify(name.slice(0, 50))}: it is one of ${columns.join(", ")}`,
  );
}

function readKey(line: number, fields: Fields): FileKey {
  const text = (name: keyof Fields): string | undefined => {
    const value = fields[name];
    if (value === undefined || value === null || value === "") return undefined;
    if (typeof value === "string" || typeof value === "number") return String(value);
    throw wrong(line, `${name} must be a text`);
  };
  const list = (name: keyof Fields): string[] => {
    const value = fields[name] ?? [];
    const items = typeof value === "string" ? value.split(/[\s,;]+/).filter(Boolean) : value;
    if (Array.isArray(items) && items.every((item) => typeof item === "string")) return items;
    throw wrong(line, `${name} must be a list of texts`);
  };
  const time = (name: keyof Fields, parse: (text: string) => Timestamp | undefined) => {
    const value = text(name);
    const parsed = value === undefined ? undefined : parse(value);
    return parsed && { [camel(name)]: parsed };
  };
  const user = text("user") ?? text("user_id");
  if (user === undefined) throw wrong(line, "a user or user_id is missing");
  const token = text("token");
  if ((token === undefined) === (text("hash") === undefined)) {
    throw wrong(line, "give either token or hash, the SHA-256 of the token");
  }
  if (token !== undefined && !isForeignToken(token)) {
    throw wrong(line, "a token must be 8 to 512 visible ASCII characters");
  }
  return {
    line,
    user,
    key: {
      // The token stays here: what is sent is its hash.
      hash: token === undefined ? (text("hash") ?? "") : hashToken(token),
      start: text("start") ?? (token === undefined ? "" : token.slice(0, Math.min(8, token.length >> 2))),
      name: text("name") ?? "",
      description: text("description") ?? "",
      type: readType(line, text("type")),
      allowedMethods: list("allowed_methods"),
      allowedAddresses: list("allowed_addresses"),
      ...time("expires_at", (value) => parseExpiry(value).at),
      ...time("created_at", parsePast),
      ...time("last_used_at", parsePast),
    },
  };
}

function camel(name: string): string {
  return name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** "service", or "API_KEY_TYPE_SERVICE". */
function readType(line: number, text: string | undefined): number {
  if (text === undefined) return 0;
  const named = ApiKeyTypeSchema.values.find(({ name }) => name === text);
  const value = named?.number ?? enumValue(ApiKeyTypeSchema, text.toLowerCase());
  if (value === 0 || enumText(ApiKeyTypeSchema, value) === "") {
    throw wrong(line, `type must be one of ${enumTexts(ApiKeyTypeSchema).join(", ")}`);
  }
  return value;
}
