/** Methods by their names: of this server, or of another whose verdicts are asked for here. */
import type { DescMethod } from "@bufbuild/protobuf";

export interface MethodName {
  /** E.g. "api.users.UserService". */
  readonly service: string;
  /** E.g. "GetUser". */
  readonly name: string;
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
