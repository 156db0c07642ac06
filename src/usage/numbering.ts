/** Numbers for things of which there are many alike. */

type Branch = Map<unknown, Branch | number>;

/** Numbers things from 1, those that are alike the same. */
export class Numbering<Thing> {
  /** The first thing of each number. */
  readonly first: Thing[] = [];
  readonly #root: Branch = new Map();

  /** The number of a thing. It is told by its traits, of which all things have as many. */
  numberOf(thing: Thing, traits: readonly unknown[]): number {
    let branch = this.#root;
    const last = traits.length - 1;
    for (let at = 0; at < last; at++) {
      let next = branch.get(traits[at]) as Branch | undefined;
      if (next === undefined) {
        next = new Map();
        branch.set(traits[at], next);
      }
      branch = next;
    }
    let number = branch.get(traits[last]) as number | undefined;
    if (number === undefined) {
      number = this.first.push(thing);
      branch.set(traits[last], number);
    }
    return number;
  }
}

/** Numbers things that are alike only where they are the same, and of which most often many come in a row. 0: undefined. */
export class RunNumbering<Thing> {
  readonly #numbering = new Numbering<Thing>();
  #last: Thing | undefined;
  #lastNumber = 0;

  /** The things, each once, in the order of their numbers from 1. */
  get first(): readonly Thing[] {
    return this.#numbering.first;
  }

  numberOf(thing: Thing | undefined): number {
    if (thing !== this.#last) {
      this.#last = thing;
      this.#lastNumber = thing === undefined ? 0 : this.#numbering.numberOf(thing, [thing]);
    }
    return this.#lastNumber;
  }
}
