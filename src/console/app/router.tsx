/** Which page is at which address, and what it keeps in the query. Each page is a script of its own. */
import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  notFound,
  Outlet,
  redirect,
} from "@tanstack/react-router";
import { NotFound, PageFailed, PageLoading, staffOnly } from "./page-states.tsx";
import { auditSearch } from "./pages/audit/search.ts";
import { keySearch } from "./pages/key/search.ts";
import { keysSearch } from "./pages/keys/search.ts";
import { logsSearch } from "./pages/logs/search.ts";
import { overviewSearch } from "./pages/overview/search.ts";
import { tryItSearch } from "./pages/try-it/search.ts";
import { usersSearch } from "./pages/users/search.ts";
import { id, parseSearch, searchOf, stringifySearch, text } from "./search.ts";
import { resumeSession } from "./session/client.ts";
import { getSession } from "./session/state.ts";
import { Shell } from "./shell/shell.tsx";

const root = createRootRoute({ component: Outlet });

const signIn = createRoute({
  getParentRoute: () => root,
  path: "/sign-in",
  validateSearch: searchOf({ next: text }),
  beforeLoad: async () => {
    if ((await resumeSession()).kind === "signedIn") throw redirect({ to: "/", replace: true });
  },
  component: lazyRouteComponent(() => import("./pages/sign-in/sign-in.tsx"), "SignIn"),
});

/** Everything that needs somebody who is signed in. */
const signedIn = createRoute({
  getParentRoute: () => root,
  id: "in",
  beforeLoad: async ({ location }) => {
    if ((await resumeSession()).kind !== "signedOut") return;
    throw redirect({ to: "/sign-in", search: { next: location.href }, replace: true });
  },
  component: Shell,
});

/** Of pages for staff: others are told that they are. */
function forStaff(): void {
  const session = getSession();
  if (session.kind === "signedIn" && !session.me.isStaff) throw notFound({ data: staffOnly });
}

const overview = createRoute({
  getParentRoute: () => signedIn,
  path: "/",
  validateSearch: overviewSearch,
  component: lazyRouteComponent(() => import("./pages/overview/overview.tsx"), "OverviewPage"),
});

const keys = createRoute({
  getParentRoute: () => signedIn,
  path: "/keys",
  validateSearch: keysSearch,
  component: lazyRouteComponent(() => import("./pages/keys/keys.tsx"), "KeysPage"),
});

const newKey = createRoute({
  getParentRoute: () => signedIn,
  path: "/keys/new",
  validateSearch: searchOf({ user: id }),
  component: lazyRouteComponent(() => import("./pages/key-new/key-new.tsx"), "NewKeyPage"),
});

const key = createRoute({
  getParentRoute: () => signedIn,
  path: "/keys/$id",
  validateSearch: keySearch,
  component: lazyRouteComponent(() => import("./pages/key/key.tsx"), "KeyPage"),
});

const editKey = createRoute({
  getParentRoute: () => signedIn,
  path: "/keys/$id/edit",
  component: lazyRouteComponent(() => import("./pages/key-edit/key-edit.tsx"), "EditKeyPage"),
});

const logs = createRoute({
  getParentRoute: () => signedIn,
  path: "/logs",
  validateSearch: logsSearch,
  component: lazyRouteComponent(() => import("./pages/logs/logs.tsx"), "LogsPage"),
});

const users = createRoute({
  getParentRoute: () => signedIn,
  path: "/users",
  validateSearch: usersSearch,
  beforeLoad: forStaff,
  component: lazyRouteComponent(() => import("./pages/users/users.tsx"), "UsersPage"),
});

const user = createRoute({
  getParentRoute: () => signedIn,
  path: "/users/$id",
  validateSearch: keySearch,
  beforeLoad: forStaff,
  component: lazyRouteComponent(() => import("./pages/user/user.tsx"), "UserPage"),
});

const audit = createRoute({
  getParentRoute: () => signedIn,
  path: "/audit",
  validateSearch: auditSearch,
  beforeLoad: forStaff,
  component: lazyRouteComponent(() => import("./pages/audit/audit.tsx"), "AuditPage"),
});

const server = createRoute({
  getParentRoute: () => signedIn,
  path: "/server",
  beforeLoad: forStaff,
  component: lazyRouteComponent(() => import("./pages/server/server.tsx"), "ServerPage"),
});

const tryIt = createRoute({
  getParentRoute: () => signedIn,
  path: "/try",
  validateSearch: tryItSearch,
  component: lazyRouteComponent(() => import("./pages/try-it/try-it.tsx"), "TryItPage"),
});

const routeTree = root.addChildren([
  signIn,
  signedIn.addChildren([overview, keys, newKey, key, editKey, logs, users, user, audit, server, tryIt]),
]);

export const router = createRouter({
  routeTree,
  basepath: import.meta.env.BASE_URL,
  parseSearch,
  stringifySearch,
  defaultPreload: "intent",
  scrollRestoration: true,
  defaultPendingComponent: PageLoading,
  defaultErrorComponent: PageFailed,
  defaultNotFoundComponent: NotFound,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
