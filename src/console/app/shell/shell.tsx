/** What surrounds every page: navigation beside it, or above it on a narrow screen. */
import { ActionIcon, Drawer } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconMenu2 } from "@tabler/icons-react";
import { Outlet, useLocation } from "@tanstack/react-router";
import { useEffect } from "react";
import { SessionEnded } from "../session/session-ended.tsx";
import { Brand } from "./brand.tsx";
import { Navigation } from "./navigation.tsx";
import classes from "./shell.module.css";
import { Shortcuts } from "./shortcuts.tsx";
import { UserMenu } from "./user-menu.tsx";

export function Shell() {
  const [opened, { open, close }] = useDisclosure(false);
  const { pathname } = useLocation();
  // biome-ignore lint/correctness/useExhaustiveDependencies: a page that was gone to closes the menu.
  useEffect(close, [pathname]);
  return (
    <div className={classes.shell}>
      <a className={classes.skip} href="#main">
        Skip to the page
      </a>
      <aside className={classes.side}>
        <Brand />
        <Navigation />
        <UserMenu />
      </aside>
      <header className={classes.top}>
        <ActionIcon onClick={open} aria-label="Open the menu" aria-expanded={opened}>
          <IconMenu2 size={20} />
        </ActionIcon>
        <Brand compact />
      </header>
      <Drawer
        opened={opened}
        onClose={close}
        position="left"
        size={272}
        title={<Brand />}
        classNames={{ body: classes.drawer }}
      >
        <Navigation />
        <UserMenu />
      </Drawer>
      <main id="main" className={classes.main} tabIndex={-1}>
        <Outlet />
      </main>
      <Shortcuts />
      <SessionEnded />
    </div>
  );
}
