import { oneOf, searchOf, text } from "../../search.ts";

export const usersSearch = searchOf({
  q: text,
  role: oneOf(["staff", "others"]),
  status: oneOf(["active", "disabled"]),
  page: text,
});
export type UsersSearch = ReturnType<typeof usersSearch>;

export const pageSize = 50;

export function listRequest({ q = "", role, status, page = "" }: UsersSearch) {
  return {
    search: q,
    ...(role === undefined ? {} : { isStaff: role === "staff" }),
    ...(status === undefined ? {} : { isActive: status === "active" }),
    pageSize,
    pageToken: page,
  };
}
