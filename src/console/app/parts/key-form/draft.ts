/** A key as it is being filled in. */
import { type Timestamp, timestampDate, timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type ApiKey, ApiKeyType } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { errorText } from "../error-text.ts";

export const expiries = ["never", "7", "30", "90", "365", "date"] as const;
export type ExpiryChoice = (typeof expiries)[number];

export interface KeyDraft {
  readonly name: string;
  readonly description: string;
  /** A user's id in digits; undefined while none is chosen. */
  readonly userId: string | undefined;
  readonly type: ApiKeyType;
  /** "never", so many days from now, or the date. */
  readonly expiry: ExpiryChoice;
  /** As a datetime-local field has it: "2027-01-31T18:00", in the reader's time zone. */
  readonly date: string;
  /** False: whatever the user may call. */
  readonly limited: boolean;
  readonly methods: readonly string[];
  readonly addresses: readonly string[];
  readonly canVerify: boolean;
}

export function newDraft(userId: bigint): KeyDraft {
  return {
    name: "",
    description: "",
    userId: String(userId),
    type: ApiKeyType.SERVICE,
    expiry: "90",
    date: "",
    limited: false,
    methods: [],
    addresses: [],
    canVerify: false,
  };
}

export function draftOf(key: ApiKey): KeyDraft {
  return {
    name: key.name,
    description: key.description,
    userId: String(key.userId),
    type: key.type,
    expiry: key.expiresAt === undefined ? "never" : "date",
    date: key.expiresAt === undefined ? "" : localDateTime(timestampDate(key.expiresAt)),
    limited: key.allowedMethods.length > 0,
    methods: key.allowedMethods,
    addresses: key.allowedAddresses,
    canVerify: key.canVerify,
  };
}

function localDateTime(date: Date): string {
  const local = new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16);
}

/** Undefined: never. */
export function expiryOf({ expiry, date }: KeyDraft): Timestamp | undefined {
  if (expiry === "never") return undefined;
  if (expiry === "date") return date === "" ? undefined : timestampFromDate(new Date(date));
  return timestampFromMs(Date.now() + Number(expiry) * 86_400_000);
}

/** What has to be mended before the server is asked, by field; what stays as it was `before` is no problem. */
export function problemsOf(draft: KeyDraft, before?: KeyDraft): Partial<Record<keyof KeyDraft, string>> {
  const problems: Partial<Record<keyof KeyDraft, string>> = {};
  if (draft.name.trim() === "") problems.name = "Give the key a name that tells what it is for.";
  if (draft.userId === undefined) problems.userId = "Choose the user whom the key signs in.";
  if (draft.expiry === "date" && (before?.expiry !== "date" || before.date !== draft.date)) {
    const time = new Date(draft.date).getTime();
    if (Number.isNaN(time)) problems.date = "Choose a day and a time.";
    else if (time <= Date.now()) problems.date = "Choose a time in the future.";
  }
  if (draft.limited && draft.methods.length === 0) {
    problems.methods = "Choose at least one method, or allow whatever the user may call.";
  }
  return problems;
}

/** The fields that CreateApiKey and UpdateApiKey have alike. */
export function fieldsOf(draft: KeyDraft) {
  const expiresAt = expiryOf(draft);
  return {
    name: draft.name.trim(),
    description: draft.description.trim(),
    type: draft.type,
    allowedMethods: draft.limited ? [...draft.methods] : [],
    allowedAddresses: [...draft.addresses],
    canVerify: draft.canVerify,
    ...(expiresAt === undefined ? {} : { expiresAt }),
  };
}

/** The paths of UpdateApiKey's mask that a draft changes. */
export function changedPaths(before: KeyDraft, after: KeyDraft): string[] {
  const was = fieldsOf(before);
  const is = fieldsOf(after);
  const paths = {
    name: was.name !== is.name,
    description: was.description !== is.description,
    type: was.type !== is.type,
    expires_at: before.expiry !== after.expiry || before.date !== after.date,
    allowed_methods: was.allowedMethods.join() !== is.allowedMethods.join(),
    allowed_addresses: was.allowedAddresses.join() !== is.allowedAddresses.join(),
    can_verify: was.canVerify !== is.canVerify,
  };
  return Object.entries(paths).flatMap(([path, changed]) => (changed ? [path] : []));
}

/** Why the server refused a draft, with what was typed instead of its place in the request. */
export function refusalOf(error: unknown, { addresses, methods }: KeyDraft): string {
  return errorText(error)
    .replace(/allowed_addresses\[(\d+)\]/, (path, index) => addresses[Number(index)] ?? path)
    .replace(/allowed_methods\[(\d+)\]/, (path, index) => methods[Number(index)] ?? path);
}
