/**
 * A bounded queue of those who wait for one thing, resumed in the order in which they came.
 *
 * Each thing that can be waited for has a queue of its own, which belongs to whoever gives that thing out, and who resumes from
 * it. Someone who is resumed may find that there is still nothing, and wait again: it is then behind those who came
 * meanwhile, and is not resumed a second time in the same round, so that no round runs for ever.
 */

import { check } from './check.js';

export class Waiting<Item> {
  private readonly tooMany: string;
  private readonly most: number;
  private items: Item[] = [];
  /** Position in `items` of the one who came first; those before it have been taken. */
  private first = 0;

  /** `what`: who waits for what, as an error names it. `most`: how many can wait at a time if all is as it should be. */
  constructor(what: string, most: number) {
    this.tooMany = `more ${what} than there can be`;
    this.most = most;
  }

  /** How many wait. */
  get size(): number {
    return this.items.length - this.first;
  }

  /** Waits behind all others. Throws an `InternalError` if that makes more than can be. */
  push(item: Item): void {
    check(this.items.length - this.first < this.most, this.tooMany, this.most);
    this.items.push(item);
  }

  /** The one who came first, which waits no longer; undefined if nobody waits. */
  take(): Item | undefined {
    if (this.first === this.items.length) return undefined;
    const item = this.items[this.first];
    this.first += 1;
    if (this.first === this.items.length) {
      // Most often it was the only one. A new list costs less than to shorten this one.
      this.items = [];
      this.first = 0;
    } else if (2 * this.first >= this.items.length) {
      // What has been taken is dropped when it is half of the list: each item is moved once at most for each that is taken.
      this.items.copyWithin(0, this.first);
      this.items.length -= this.first;
      this.first = 0;
    }
    return item;
  }

  /** The one who came first, which waits on; undefined if nobody waits. */
  get next(): Item | undefined {
    return this.items[this.first];
  }

  /** Waits before all others: the one who was taken last, and has found nothing. */
  putBack(item: Item): void {
    check(this.size < this.most, this.tooMany, this.most);
    if (this.first === 0) this.items.unshift(item);
    else {
      this.first -= 1;
      this.items[this.first] = item;
    }
  }

  /** All who wait, in order; they wait no longer, and are the caller's. */
  takeAll(): Item[] {
    const items = this.first === 0 ? this.items : this.items.slice(this.first);
    this.items = [];
    this.first = 0;
    return items;
  }

  /**
   * Resumes one after another of those who wait now, as long as `may` holds, which is asked before each. Those who wait again
   * stay for the next time; those whom somebody else takes meanwhile are left to them.
   */
  resume(go: (item: Item) => void, may: () => boolean = always): void {
    if (this.first === this.items.length) return;
    for (let left = this.size; left > 0 && this.size > 0 && may(); left -= 1) go(this.take() as Item);
  }
}

function always(): boolean {
  return true;
}
