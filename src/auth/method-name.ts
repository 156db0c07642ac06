/** Methods by their names: of this server, or of another whose verdicts are asked for here. */
import type { DescMethod } from "@bufbuild/protobuf";

export interface MethodName {
  /** E.g. "api.users.UserService". */
  readonly service: string;
  /** E.g. "GetUser". */
  readonly name: string;
}

/** Stands for a method that has no name here. No pattern but `*` covers it. */
export const noMethod: MethodName = { service: "", name: "" };

const longestName = 512;
const form = /^\/?((?:[a-z_]\w*\.)*[a-z_]\w*)\/([a-z_]\w*)$/i;

/** Reads `package.Service/Method`, with or without a slash before it; undefined for what is of another form. */
export function parseMethodName(text: string): MethodName | undefined {
  const [, service, name] = text.length > longestName ? [] : (text.match(form) ?? []);
  return service === undefined || name === undefined ? undefined : { service, name };
}

const names = new WeakMap<DescMethod, MethodName>();

/** The name of a mounted method; the same object each time. */
export function methodName(method: DescMethod): MethodName {
  let name = names.get(method);
  if (name === undefined) {
    name = { service: method.parent.typeName, name: method.name };
    names.set(method, name);
  }
  return name;
}
