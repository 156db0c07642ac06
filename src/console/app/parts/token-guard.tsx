/** Keeps a new token, which nobody can show again, from going off the page before it was copied. */
import { Modal } from "@mantine/core";
import { useBlocker } from "@tanstack/react-router";
import { type ReactNode, useCallback, useRef, useState } from "react";
import { ConfirmForm } from "./confirm-form.tsx";
import { Notice } from "./notice.tsx";

interface TokenGuard {
  /** The token was copied, or its reader says that they have it. */
  readonly keep: () => void;
  /** Does what takes the token off the page: at once if it is kept, else when that was confirmed. */
  readonly leave: (go: () => void) => void;
  readonly isAsking: boolean;
  /** The dialog that asks; to be put into the page. */
  readonly question: ReactNode;
}

/** Watches over the token that is shown; undefined or empty: none is. */
export function useTokenGuard(token: string | undefined): TokenGuard {
  const [going, setGoing] = useState<() => void>();
  // Refs: a link is followed in the same event that says that the token is kept, before anything is rendered.
  const shown = useRef(token);
  shown.current = token;
  const kept = useRef<string>(undefined);
  const isAtRisk = useCallback(() => Boolean(shown.current) && shown.current !== kept.current, []);
  const keep = useCallback(() => {
    kept.current = shown.current;
  }, []);
  const { status, proceed, reset } = useBlocker({
    shouldBlockFn: isAtRisk,
    enableBeforeUnload: isAtRisk,
    withResolver: true,
  });
  const isAsking = status === "blocked" || going !== undefined;

  function stay() {
    reset?.();
    setGoing(undefined);
  }

  async function go() {
    keep();
    setGoing(undefined);
    going?.();
    proceed?.();
  }

  return {
    keep,
    leave: (next) => (isAtRisk() ? setGoing(() => next) : next()),
    isAsking,
    question: (
      <Modal opened={isAsking} onClose={stay} title="Leave without the token?" size="sm" zIndex={300}>
        <ConfirmForm action="Leave without it" isDanger onConfirm={go} onCancel={stay}>
          <Notice tone="warning">
            You have not copied it. It is not stored, and nobody can show it again: without it the key is of
            no use.
          </Notice>
        </ConfirmForm>
      </Modal>
    ),
  };
}
