/** Numbers of 32 bits by small numbers, as many as it takes. */
export class NumberColumn {
  #numbers = new Int32Array(16);

  /** 0 where none was set. */
  get(index: number): number {
    return this.#numbers[index] ?? 0;
  }

  set(index: number, value: number): void {
    if (index >= this.#numbers.length) {
      const numbers = new Int32Array(2 * index);
      numbers.set(this.#numbers);
      this.#numbers = numbers;
    }
    this.#numbers[index] = value;
  }
}
