/** `api.users.UserService`: the example service. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { getPrincipal, requireUser } from "../auth/principal.ts";
import type { UserResponseSchema, UserService } from "../gen/api/users/user_service_pb.js";
import { actorOf } from "../rpc/actor.ts";
import { checkText, checkUserId, invalid } from "../rpc/validate.ts";
import { LastStaffUserError, type User, UsernameTakenError, type UserStore } from "./store.ts";

const limits = { fallback: 100, most: 1000, chunk: 100 };
const maxBioLength = 2000;

export function createUserService(users: UserStore): ServiceImpl<typeof UserService> {
  return {
    async getUser({ userId }, context) {
      const user = await users.get(checkUserId("user_id", userId));
      if (user === undefined) throw notFound(userId);
      return toResponse(user, context);
    },

    async updateProfile({ bio }, context) {
      const { userId } = requireUser(context);
      const user = await users.updateBio(userId, checkText("bio", bio, maxBioLength), actorOf(context));
      if (user === undefined) throw notFound(userId);
      return toResponse(user, context);
    },

    async createUser(request, context) {
      const user = {
        username: checkUsername(request.username),
        email: checkEmail(request.email),
        bio: checkText("bio", request.bio, maxBioLength),
        // Staff is never made from this service's fields.
        isStaff: false,
      };
      try {
        return toResponse(await users.create(user, actorOf(context)), context);
      } catch (error) {
        if (error instanceof UsernameTakenError) {
          throw new ConnectError(`username ${user.username} is taken: choose another`, Code.AlreadyExists);
        }
        throw error;
      }
    },

    async deleteUser({ userId }, context) {
      try {
        const found = await users.delete(checkUserId("user_id", userId), actorOf(context));
        if (!found) throw notFound(userId);
        return {};
      } catch (error) {
        if (error instanceof LastStaffUserError) {
          throw new ConnectError(
            `user ${userId} is the last active staff user: make another one staff first`,
            Code.FailedPrecondition,
          );
        }
        throw error;
      }
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

/** Checks a username: 1 to 150 letters, digits and @ . + - _. Throws `invalid_argument`. */
export function checkUsername(username: string): string {
  if (!/^[\p{L}\p{N}@.+_-]{1,150}$/u.test(username)) {
    throw invalid("username must have 1 to 150 letters, digits or characters of @ . + - _");
  }
  return username;
}

/** Checks an email address; empty is none. Throws `invalid_argument`. */
export function checkEmail(email: string): string {
  if (email !== "" && (email.length > 254 || !/^[^\s@\0]+@[^\s@\0]+$/.test(email))) {
    throw invalid("email must be an address like ada@example.com, or empty");
  }
  return email;
}

function notFound(id: bigint): ConnectError {
  return new ConnectError(`user ${id} not found`, Code.NotFound);
}
