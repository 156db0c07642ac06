/** Users as people name them: by id or username. */
import { UserAdminService } from "../gen/latchkey/v1/user_admin_service_pb.js";
import { exitCodes, Failure } from "./failure.ts";
import type { Remote } from "./remote.ts";

/** The id of a user. Digits are an id; who is not staff can name users by nothing else. */
export async function findUserId(remote: Remote, text: string): Promise<bigint> {
  if (/^\d{1,18}$/.test(text)) return BigInt(text);
  const admin = remote.client(UserAdminService);
  let pageToken = "";
  do {
    const page = await admin.listUsers({ search: text, pageSize: 500, pageToken });
    const found = page.users.find(({ username }) => username.toLowerCase() === text.toLowerCase());
    if (found !== undefined) return found.id;
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  throw new Failure(`there is no user ${text}`, exitCodes.notFound);
}

/** The id of a user, where one is named; 0 stands for any. */
export async function findUserIdOrAny(remote: Remote, text: string | undefined): Promise<bigint> {
  return text === undefined ? 0n : findUserId(remote, text);
}
