/** What `latchkey doctor` finds. */

export interface Finding {
  /** `wrong` keeps something from working; `warning` may, or soon will. */
  readonly state: "ok" | "warning" | "wrong";
  readonly what: string;
  readonly found: string;
  /** What to do about it. */
  readonly advice?: string;
}

export const ok = (what: string, found: string): Finding => ({ state: "ok", what, found });

export const warning = (what: string, found: string, advice: string): Finding => {
  return { state: "warning", what, found, advice };
};

export const wrong = (what: string, found: string, advice: string): Finding => {
  return { state: "wrong", what, found, advice };
};
