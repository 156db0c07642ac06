/** What is under way, in the order in which its time will be up, when each has the same time. */

/** One that stands in a list, or in none; the fields belong to the list. */
export interface Timed {
  /** Since when its time runs; on the clock of performance.now(). */
  sinceMs: number;
  earlier: Timed | undefined;
  later: Timed | undefined;
  /** Where it stands. */
  list: object | undefined;
}

export interface RunningList<T extends Timed> {
  /** Puts one last that stands in no list. Its time runs from the given moment, no earlier than that of those before. */
  add(item: T, sinceMs: number): void;
  /** Does nothing with one that does not stand in this list. */
  remove(item: T): void;
  /** Calls back with each that is there now. */
  forEach(visit: (item: T) => void): void;
}

/**
 * Creates a list that tells of each item which has been in it for so many milliseconds, as it is
 * asked for when an item comes and when its time may be up; 0: never. One timer serves all: a timer
 * of its own for each RPC would cost more than the list.
 */
export function createRunningList<T extends Timed>(
  timeoutMs: () => number,
  onTimeout: (item: T) => void,
): RunningList<T> {
  let first: T | undefined;
  let last: T | undefined;
  let timer: NodeJS.Timeout | undefined;
  /** When it looks. */
  let dueMs = 0;

  function schedule(atMs: number): void {
    clearTimeout(timer);
    dueMs = atMs;
    timer = setTimeout(expire, Math.max(1, Math.ceil(atMs - performance.now()))).unref();
  }

  function expire(): void {
    timer = undefined;
    const ms = timeoutMs();
    if (ms === 0) return;
    const nowMs = performance.now();
    while (first !== undefined && first.sinceMs + ms <= nowMs) {
      const late = first;
      remove(late);
      onTimeout(late);
    }
    if (first !== undefined) schedule(first.sinceMs + ms);
  }

  function remove(item: T): void {
    if (item.list !== list) return;
    item.list = undefined;
    if (item.earlier === undefined) first = item.later as T | undefined;
    else item.earlier.later = item.later;
    if (item.later === undefined) last = item.earlier as T | undefined;
    else item.later.earlier = item.earlier;
    item.earlier = undefined;
    item.later = undefined;
  }

  const list: RunningList<T> = {
    add(item, sinceMs) {
      item.list = list;
      item.sinceMs = sinceMs;
      item.earlier = last;
      if (last === undefined) first = item;
      else last.later = item;
      last = item;
      // Once it runs, it is left to run: most are gone before it looks.
      const ms = timeoutMs();
      if (ms > 0 && (timer === undefined || sinceMs + ms < dueMs)) schedule(sinceMs + ms);
    },
    remove,
    forEach(visit) {
      for (let item = first; item !== undefined; ) {
        const next = item.later as T | undefined;
        visit(item);
        item = next;
      }
    },
  };
  return list;
}
