import { useEffect, useState } from "react";

/** Every call keeps the session alive: a page that nobody looks at must not. */
const idleMs = 5 * 60_000;

/** Whether somebody looks at the page: it is visible, and was touched within the last minutes. */
export function useWatched(): boolean {
  const [watched, setWatched] = useState(true);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    const look = () => {
      clearTimeout(timer);
      setWatched(!document.hidden);
      timer = setTimeout(() => setWatched(false), idleMs);
    };
    const events = ["pointermove", "pointerdown", "keydown", "scroll", "visibilitychange"] as const;
    for (const event of events) document.addEventListener(event, look, { passive: true });
    look();
    return () => {
      clearTimeout(timer);
      for (const event of events) document.removeEventListener(event, look);
    };
  }, []);
  return watched;
}

/** A query's refetchInterval that rests while nobody looks. */
export function useLiveInterval(everyMs: number): number | false {
  return useWatched() ? everyMs : false;
}
