/** The pages of the console, as its navigation lists them. */
import {
  IconActivity,
  IconChartAreaLine,
  IconHistory,
  IconKey,
  IconSend,
  IconServer,
  IconUsers,
  type TablerIcon,
} from "@tabler/icons-react";

export interface Destination {
  readonly to: "/" | "/logs" | "/keys" | "/users" | "/audit" | "/server" | "/try";
  readonly label: string;
  readonly icon: TablerIcon;
  /** Pressed after g, it goes there. */
  readonly shortcut: string;
  readonly staffOnly?: boolean;
}

export const destinations: readonly { readonly group: string; readonly items: readonly Destination[] }[] = [
  {
    group: "Observe",
    items: [
      { to: "/", label: "Overview", icon: IconChartAreaLine, shortcut: "o" },
      { to: "/logs", label: "Request logs", icon: IconActivity, shortcut: "l" },
    ],
  },
  {
    group: "Manage",
    items: [
      { to: "/keys", label: "API keys", icon: IconKey, shortcut: "k" },
      { to: "/users", label: "Users", icon: IconUsers, shortcut: "u", staffOnly: true },
      { to: "/audit", label: "Audit log", icon: IconHistory, shortcut: "a", staffOnly: true },
    ],
  },
  {
    group: "Server",
    items: [
      { to: "/server", label: "Server", icon: IconServer, shortcut: "s", staffOnly: true },
      { to: "/try", label: "Try it", icon: IconSend, shortcut: "t" },
    ],
  },
];
