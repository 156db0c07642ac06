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
