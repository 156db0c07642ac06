/** Names for the ids that rows hold, asked for once a page of rows. */
import { useQuery } from "@connectrpc/connect-query";
import { keepPreviousData } from "@tanstack/react-query";
import { useMemo } from "react";
import { type ApiKey, ApiKeyService } from "../../../gen/latchkey/v1/api_key_service_pb.js";
import { type User, UserAdminService } from "../../../gen/latchkey/v1/user_admin_service_pb.js";
import { useMe } from "../session/state.ts";

/** Names change seldom. */
const staleTime = 60_000;

/** Keys by their ids; those that are gone are missing. At most 500. */
export function useKeysById(ids: Iterable<string>): ReadonlyMap<string, ApiKey> {
  const wanted = [...new Set(ids)].filter((id) => id !== "").sort();
  const { data } = useQuery(
    ApiKeyService.method.batchGetApiKeys,
    { ids: wanted },
    { enabled: wanted.length > 0, staleTime, placeholderData: keepPreviousData },
  );
  return useMemo(() => new Map(data?.apiKeys.map((key) => [key.id, key])), [data]);
}

/** Users by their ids; others than staff know only themselves. At most 500. */
export function useUsersById(ids: Iterable<bigint>): ReadonlyMap<bigint, Pick<User, "username">> {
  const me = useMe();
  const wanted = [...new Set(ids)].filter((id) => id > 0n).sort((a, b) => (a < b ? -1 : 1));
  const { data } = useQuery(
    UserAdminService.method.batchGetUsers,
    { ids: wanted },
    { enabled: me.isStaff && wanted.length > 0, staleTime, placeholderData: keepPreviousData },
  );
  return useMemo(
    () =>
      new Map<bigint, Pick<User, "username">>([
        [me.userId, me],
        ...(data?.users ?? []).map((user): [bigint, User] => [user.id, user]),
      ]),
    [data, me],
  );
}
