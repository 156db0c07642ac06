/**
 * Fields of requests, each judged once (RFC 9113, sections 8.2 and 8.3): an entry of a table
 * is referred to over and over.
 */
import { isFieldName, isFieldValue, isToken } from "./field-text.ts";
import { fieldOverheadBytes } from "./tables.ts";

/** What a field is: bits that are added up over the fields of a request. */
const isMethod = 1 << 0;
const isScheme = 1 << 1;
const isPath = 1 << 2;
const isAuthority = 1 << 3;
const isHost = 1 << 4;
const isContentLength = 1 << 5;
const isRegular = 1 << 6;
const isConnect = 1 << 7;
const isOptions = 1 << 8;
const isHttp = 1 << 9;
const hasSlash = 1 << 10;
const isAsterisk = 1 << 11;
const isWrong = 1 << 12;
const isPseudo = isMethod | isScheme | isPath | isAuthority;
const comesOnce = isPseudo | isHost | isContentLength;

export class RequestField {
  readonly name: string;
  /** Latin-1. */
  readonly value: string;
  /** As RFC 7541, section 4.1 counts them. */
  readonly bytes: number;
  readonly marks: number;
  /** Undefined: nothing, as far as this field alone can tell. */
  readonly wrong: string | undefined;
  /** Wrong by nothing but the whitespace around its value. */
  readonly isPadded: boolean;

  constructor(name: string, value: string) {
    this.name = name;
    this.value = value;
    this.bytes = name.length + value.length + fieldOverheadBytes;
    const judged = judge(name, value);
    if (typeof judged === "number") {
      this.marks = judged;
      this.wrong = undefined;
      this.isPadded = false;
    } else {
      this.isPadded = isPadded(name, value);
      this.marks = isWrong;
      this.wrong = judged;
    }
  }
}

/** Of a request that is well-formed so far: what is wrong with the next field, by the marks of those before. */
export function wrongNext(seen: number, field: RequestField, isTrailer: boolean): string | undefined {
  const { marks } = field;
  if ((marks & (isWrong | comesOnce)) === 0) return undefined;
  if ((marks & isWrong) !== 0) return field.wrong;
  if ((marks & isPseudo) !== 0) {
    if (isTrailer) return "a pseudo-header field among trailers";
    if ((seen & isRegular) !== 0) return `${field.name} after a field that is no pseudo-header field`;
  }
  return (seen & marks & comesOnce) !== 0 ? `${field.name} more than once` : undefined;
}

/** By the marks of all of its fields. */
export function wrongRequest(seen: number): string | undefined {
  if ((seen & isMethod) === 0) return "no :method";
  if ((seen & isConnect) !== 0) {
    if ((seen & (isScheme | isPath)) !== 0) return "CONNECT with :scheme or :path";
    return (seen & isAuthority) === 0 ? "CONNECT without :authority" : undefined;
  }
  if ((seen & isScheme) === 0) return "no :scheme";
  if ((seen & isPath) === 0) return "no :path";
  if ((seen & isHttp) === 0) return undefined;
  if ((seen & (isAuthority | isHost)) === 0) return "neither :authority nor host";
  if ((seen & hasSlash) !== 0 || (seen & (isAsterisk | isOptions)) === (isAsterisk | isOptions)) {
    return undefined;
  }
  return ":path that does not start with /";
}

type Verdict = number | string;

/** Of fields that have no rules of their own. */
function isPadded(name: string, value: string): boolean {
  const bare = value.replace(/^[\t ]+|[\t ]+$/g, "");
  return bare !== value && isFieldValue(bare) && !specialNames.has(name) && isFieldName(name);
}

function judge(name: string, value: string): Verdict {
  const special = specialNames.get(name);
  if (special === undefined && !isFieldName(name)) {
    if (name.startsWith(":")) return "an unknown pseudo-header field";
    return isFieldName(name.toLowerCase())
      ? "a field name with upper-case letters"
      : "a field name that is no token";
  }
  if (!isFieldValue(value)) {
    return "a field value with a control character, or with whitespace at either end";
  }
  return special === undefined ? isRegular : special(value);
}

const isConnectionSpecific = (name: string) => (): Verdict => `the connection-specific field ${name}`;

/** By name: of fields that have rules of their own. */
const specialNames = new Map<string, (value: string) => Verdict>([
  [
    ":method",
    (value) => {
      if (value === "CONNECT") return isMethod | isConnect;
      if (value === "OPTIONS") return isMethod | isOptions;
      return isToken(value) ? isMethod : ":method that is no token";
    },
  ],
  [
    ":scheme",
    (value) => {
      if (/^https?$/i.test(value)) return isScheme | isHttp;
      return /^[a-z][a-z0-9+.-]*$/i.test(value) ? isScheme : ":scheme that is none";
    },
  ],
  [
    ":path",
    (value) => {
      if (value === "") return "an empty :path";
      if (/[\t ]/.test(value)) return ":path with whitespace";
      if (value === "*") return isPath | isAsterisk;
      return value.startsWith("/") ? isPath | hasSlash : isPath;
    },
  ],
  [":authority", (value) => judgeAuthority(":authority", value, isAuthority)],
  ["host", (value) => judgeAuthority("host", value, isHost | isRegular)],
  [
    "content-length",
    (value) => {
      return /^\d{1,15}$/.test(value) ? isContentLength | isRegular : "content-length that is no number";
    },
  ],
  // Coding names are compared without regard to case (RFC 9110, section 10.1.4).
  ["te", (value) => (value.toLowerCase() === "trailers" ? isRegular : "te other than trailers")],
  ...["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"].map(
    (name) => [name, isConnectionSpecific(name)] as const,
  ),
]);

/** Without user information, which the authority of an http or https URI may not have (RFC 9113, section 8.3.1). */
function judgeAuthority(name: string, value: string, marks: number): Verdict {
  if (value === "") return `an empty ${name}`;
  return /^[\w.~!$&'()*+,;=:%[\]-]+$/.test(value) ? marks : `${name} that is no host with or without port`;
}
