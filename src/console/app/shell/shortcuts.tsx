/** Keys that go places: g and a letter, / to search, ? for the list of them. */
import { Kbd, Modal } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useNavigate } from "@tanstack/react-router";
import { useEffect } from "react";
import { useMe } from "../session/state.ts";
import { destinations } from "./destinations.ts";
import classes from "./shortcuts.module.css";

const showEvent = "latchkey:shortcuts";
/** How long after g its letter counts. */
const sequenceMs = 1_500;

export function showShortcuts(): void {
  window.dispatchEvent(new Event(showEvent));
}

/** Whether a key press is meant for what has the focus, or for a dialog that is open. */
function isTyping(event: KeyboardEvent): boolean {
  const { target } = event;
  return (
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    (target instanceof HTMLElement &&
      target.closest("input, textarea, select, [contenteditable]") !== null) ||
    document.querySelector('[aria-modal="true"]') !== null
  );
}

export function Shortcuts() {
  const [opened, { open, close }] = useDisclosure(false);
  const { isStaff } = useMe();
  const navigate = useNavigate();

  useEffect(() => {
    let goingSince = Number.NEGATIVE_INFINITY;
    const reachable = destinations
      .flatMap(({ items }) => items)
      .filter(({ staffOnly }) => isStaff || staffOnly !== true);
    const onKeyDown = (event: KeyboardEvent) => {
      if (isTyping(event)) return;
      const going = event.timeStamp - goingSince < sequenceMs;
      goingSince = event.key === "g" && !going ? event.timeStamp : Number.NEGATIVE_INFINITY;
      const destination = going ? reachable.find(({ shortcut }) => shortcut === event.key) : undefined;
      if (destination !== undefined) {
        event.preventDefault();
        void navigate({ to: destination.to });
      } else if (event.key === "?") {
        open();
      } else if (event.key === "c" && !going) {
        event.preventDefault();
        void navigate({ to: "/keys/new" });
      } else if (event.key === "/") {
        const search = document.querySelector<HTMLInputElement>("main input[type=search]");
        if (search === null) return;
        event.preventDefault();
        search.focus();
        search.select();
      }
    };
    window.addEventListener("keydown", onKeyDown);
    window.addEventListener(showEvent, open);
    return () => {
      window.removeEventListener("keydown", onKeyDown);
      window.removeEventListener(showEvent, open);
    };
  }, [isStaff, navigate, open]);

  const rows: [label: string, keys: string[]][] = [
    ...destinations
      .flatMap(({ items }) => items)
      .filter(({ staffOnly }) => isStaff || staffOnly !== true)
      .map(({ label, shortcut }): [string, string[]] => [`Go to ${label}`, ["g", shortcut]]),
    ["Create an API key", ["c"]],
    ["Search this page", ["/"]],
    ["Show this list", ["?"]],
  ];
  return (
    <Modal opened={opened} onClose={close} title="Keyboard shortcuts" size="sm">
      <dl className={classes.list}>
        {rows.map(([label, keys]) => (
          <div key={label} className={classes.row}>
            <dt>{label}</dt>
            <dd>
              {keys.map((key) => (
                <Kbd key={key} size="xs">
                  {key}
                </Kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </Modal>
  );
}
