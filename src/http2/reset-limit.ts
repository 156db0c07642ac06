/** How many streams a client may have reset (rapid reset, CVE-2023-44487, and those that it provokes, CVE-2025-8671). */
export class ResetLimit {
  readonly #burst: number;
  readonly #perS: number;
  #left: number;
  #atMs = performance.now();

  constructor(burst: number, perS: number) {
    this.#burst = burst;
    this.#perS = perS;
    this.#left = burst;
  }

  /** Notes one. False: it is one too many. */
  take(): boolean {
    const nowMs = performance.now();
    this.#left = Math.min(this.#burst, this.#left + ((nowMs - this.#atMs) / 1000) * this.#perS);
    this.#atMs = nowMs;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
