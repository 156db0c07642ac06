/** Context values, with a field for each that every RPC has. */
import { type ContextKey, type ContextValues, createContextValues } from "@connectrpc/connect";
import { type Authorization, authorizationKey } from "../../auth/authorizer.ts";
import { type Call, callKey } from "../../auth/call.ts";
import { type Principal, principalKey } from "../../auth/principal.ts";

export class LeanValues implements ContextValues {
  call: Call | undefined;
  authorization: Authorization | undefined;
  principal: Principal | undefined;
  /** Those that somebody else set. */
  #others: ContextValues | undefined;

  get<T>(key: ContextKey<T>): T;
  get(key: ContextKey<unknown>): unknown {
    switch (key.id) {
      case principalKey.id:
        return this.principal;
      case callKey.id:
        return this.call;
      case authorizationKey.id:
        return this.authorization;
      default:
        return this.#others === undefined ? key.defaultValue : this.#others.get(key);
    }
  }

  set<T>(key: ContextKey<T>, value: T): this;
  set(key: ContextKey<unknown>, value: unknown): this {
    switch (key.id) {
      case principalKey.id:
        this.principal = value as Principal | undefined;
        break;
      case callKey.id:
        this.call = value as Call | undefined;
        break;
      case authorizationKey.id:
        this.authorization = value as Authorization | undefined;
        break;
      default:
        this.#others ??= createContextValues();
        this.#others.set(key, value);
    }
    return this;
  }

  delete(key: ContextKey<unknown>): this {
    this.set(key, key.defaultValue);
    return this;
  }
}
