/** `latchkey.v1.UserAdminService`. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { requireStaff } from "../auth/principal.ts";
import {
  ListUsersRequestSchema,
  type UserAdminService,
  type UserSchema,
} from "../gen/latchkey/v1/user_admin_service_pb.js";
import { actorOf } from "../rpc/actor.ts";
import { readMask } from "../rpc/field-mask.ts";
import { readIdCursor, readPage } from "../rpc/page.ts";
import { checkText, checkUserId, invalid } from "../rpc/validate.ts";
import type { UserChanges } from "./changes.ts";
import { checkBio, checkEmail, checkUsername } from "./fields.ts";
import { orRefusal, userNotFound } from "./refusals.ts";
import type { UserStore, UserWithKeys } from "./store.ts";

const pageSizes = { fallback: 50, most: 500 };
const maxSearchLength = 200;
const mostIds = 500;
const changeable = ["username", "email", "bio", "is_staff", "is_active"] as const;

/** Creates the service. Each method asks for staff itself, beside the proto's declaration: a change outlives a time with authentication switched off. */
export function createUserAdminService(
  users: UserStore,
  changes: UserChanges,
): ServiceImpl<typeof UserAdminService> {
  return {
    async createUser(request, context) {
      requireStaff(context);
      const user = {
        username: checkUsername(request.username),
        email: checkEmail(request.email),
        bio: checkBio(request.bio),
        isStaff: request.isStaff,
      };
      const created = await orRefusal(changes.create(user, actorOf(context)));
      return { user: toMessage({ ...created, activeKeyCount: 0 }) };
    },

    async getUser({ id }, context) {
      requireStaff(context);
      const user = await users.getWithKeys(checkUserId("id", id));
      if (user === undefined) throw userNotFound(id);
      return { user: toMessage(user) };
    },

    async batchGetUsers({ ids }, context) {
      requireStaff(context);
      if (ids.length > mostIds) throw invalid(`ids must name at most ${mostIds} users, not ${ids.length}`);
      const found = await users.getAllWithKeys(ids.map((id, i) => checkUserId(`ids[${i}]`, id)));
      return { users: found.map(toMessage) };
    },

    async listUsers(request, context) {
      requireStaff(context);
      const page = readPage(ListUsersRequestSchema, request, pageSizes);
      const rows = await users.list(
        {
          search: checkText("search", request.search, maxSearchLength) || undefined,
          isStaff: request.isStaff,
          isActive: request.isActive,
        },
        page.size + 1,
        readIdCursor(page),
      );
      const shown = rows.slice(0, page.size);
      const last = shown.at(-1);
      return {
        users: shown.map(toMessage),
        nextPageToken: rows.length > page.size && last !== undefined ? page.tokenAfter(String(last.id)) : "",
      };
    },

    async updateUser({ user, updateMask }, context) {
      requireStaff(context);
      const mask = readMask(updateMask, changeable);
      if (user === undefined)
        throw invalid("user must be given: its id, and the new values of what update_mask names");
      const id = checkUserId("user.id", user.id);
      const update = {
        ...(mask.has("username") && { username: checkUsername(user.username) }),
        ...(mask.has("email") && { email: checkEmail(user.email) }),
        ...(mask.has("bio") && { bio: checkBio(user.bio) }),
        ...(mask.has("is_staff") && { isStaff: user.isStaff }),
        ...(mask.has("is_active") && { isActive: user.isActive }),
      };
      const updated = await orRefusal(changes.update(id, update, actorOf(context)));
      if (updated === undefined) throw userNotFound(id);
      return { user: toMessage(updated.user), endedApiKeyCount: updated.endedKeyCount };
    },

    async deleteUser({ id }, context) {
      requireStaff(context);
      const endedKeyCount = await orRefusal(changes.delete(checkUserId("id", id), actorOf(context)));
      if (endedKeyCount === undefined) throw userNotFound(id);
      return { endedApiKeyCount: endedKeyCount };
    },
  };
}

function toMessage(user: UserWithKeys): MessageInitShape<typeof UserSchema> {
  const { id, username, email, bio, isStaff, isActive, activeKeyCount } = user;
  return {
    id,
    username,
    email,
    bio,
    isStaff,
    isActive,
    createdAt: timestampFromDate(user.createdAt),
    updatedAt: timestampFromDate(user.updatedAt),
    activeApiKeyCount: activeKeyCount,
  };
}
