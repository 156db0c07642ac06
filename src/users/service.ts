/** `api.users.UserService`: the example service. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { getPrincipal, requireUser } from "../auth/principal.ts";
import type { UserResponseSchema, UserService } from "../gen/api/users/user_service_pb.js";
import { actorOf } from "../rpc/actor.ts";
import { checkUserId, invalid } from "../rpc/validate.ts";
import type { UserChanges } from "./changes.ts";
import { checkBio, checkEmail, checkUsername } from "./fields.ts";
import { orRefusal, userNotFound } from "./refusals.ts";
import type { User, UserStore } from "./store.ts";

const limits = { fallback: 100, most: 1000, chunk: 100 };

export function createUserService(users: UserStore, changes: UserChanges): ServiceImpl<typeof UserService> {
  return {
    async getUser({ userId }, context) {
      const user = await users.get(checkUserId("user_id", userId));
      if (user === undefined) throw userNotFound(userId);
      return toResponse(user, context);
    },

    async updateProfile({ bio }, context) {
      const { userId } = requireUser(context);
      const updated = await changes.update(userId, { bio: checkBio(bio) }, actorOf(context));
      if (updated === undefined) throw userNotFound(userId);
      return toResponse(updated.user, context);
    },

    async createUser(request, context) {
      const user = {
        username: checkUsername(request.username),
        email: checkEmail(request.email),
        bio: checkBio(request.bio),
        // Staff is never made from this service's fields.
        isStaff: false,
      };
      return toResponse(await orRefusal(changes.create(user, actorOf(context))), context);
    },

    async deleteUser({ userId }, context) {
      const deletion = changes.delete(checkUserId("user_id", userId), actorOf(context));
      if ((await orRefusal(deletion)) === undefined) throw userNotFound(userId);
      return {};
    },

    async *listUsers({ limit }, context) {
      if (limit < 0) {
        throw invalid(
          `limit must not be negative: 0 means ${limits.fallback}, at most ${limits.most} are returned`,
        );
      }
      let left = Math.min(limit || limits.fallback, limits.most);
      let after = 0n;
      // In chunks, so that a slow reader holds neither a connection nor all of the rows.
      while (left > 0 && !context.signal.aborted) {
        const chunk = await users.listActive(Math.min(left, limits.chunk), after);
        for (const user of chunk) {
          after = user.id;
          yield toResponse(user, context);
        }
        if (chunk.length < limits.chunk) return;
        left -= chunk.length;
      }
    },
  };
}

function toResponse(user: User, context: HandlerContext): MessageInitShape<typeof UserResponseSchema> {
  const principal = getPrincipal(context);
  const mayReadEmail = principal !== undefined && (principal.isStaff || principal.userId === user.id);
  return { id: user.id, username: user.username, email: mayReadEmail ? user.email : "", bio: user.bio };
}
