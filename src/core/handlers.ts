/**
 * The handlers of an engine by the tokens that they have: each owns a range of tokens, as long as what it may put into one.
 *
 * ```text
 *   token   │ slot, 16 bits │ 16 bits │      a range is one slot, or an aligned run of 2^n of them
 * ```
 *
 * Few handlers have long ranges. So there is room for those of a thousand volumes beside those of devices and connections.
 */

import { type CompletionHandler, TAG_BITS } from '../ports/completion.js';
import { HANDLER_SLOTS_MAX } from '../ports/limits.js';
import { check } from './check.js';

/** Bits of a token that are within a slot. */
const SLOT_BITS = 16;

export class Handlers {
  private readonly handlers: (CompletionHandler | undefined)[] = [];
  /** By slot: the first token of its range, and the slots of a range by the first of them. */
  private readonly bases = new Int32Array(HANDLER_SLOTS_MAX);
  private readonly lengths = new Uint8Array(HANDLER_SLOTS_MAX);
  /** By length of a range: before this slot there is no room for one. */
  private readonly hints = new Map<number, number>();

  /** Adds a handler whose tags have so many bits; see `CompletionPort.register`. */
  register(handler: CompletionHandler, tagBits = TAG_BITS): number {
    check(tagBits <= TAG_BITS, 'a handler wants more tags than there are', tagBits);
    const slots = 1 << Math.max(0, tagBits - SLOT_BITS);
    const first = this.freeRange(slots);
    const base = (first << SLOT_BITS) | 0;
    for (let slot = first; slot < first + slots; slot += 1) {
      this.handlers[slot] = handler;
      this.bases[slot] = base;
    }
    this.lengths[first] = slots;
    this.hints.set(slots, first + slots);
    return base;
  }

  private freeRange(slots: number): number {
    let first = this.hints.get(slots) ?? 0;
    while (!this.isFree(first, slots)) first += slots;
    check(first + slots <= HANDLER_SLOTS_MAX, 'there are too many completion handlers', first);
    return first;
  }

  private isFree(first: number, slots: number): boolean {
    for (let slot = first; slot < first + slots; slot += 1) if (this.handlers[slot] !== undefined) return false;
    return true;
  }

  unregister(baseToken: number): void {
    const first = baseToken >>> SLOT_BITS;
    const slots = this.lengths[first];
    for (let slot = first; slot < first + slots; slot += 1) this.handlers[slot] = undefined;
    this.lengths[first] = 0;
    for (const [length, hint] of this.hints) if (hint > first) this.hints.set(length, first - (first % length));
  }

  /** Tells the handler of a token, if it is still there. */
  complete(token: number, result: number, flags: number): void {
    const slot = token >>> SLOT_BITS;
    this.handlers[slot]?.complete(token - this.bases[slot], result, flags);
  }
}
