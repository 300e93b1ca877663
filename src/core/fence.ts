/**
 * The end of something that others use, told to them once: from then on they ask nothing of it any more.
 *
 * It is told within the call that ends it, so that nobody can ask in between.
 */

import { check } from './check.js';

export class Fence {
  private raised = false;
  private readonly listeners: (() => void)[] = [];

  /** `told` is called once, when the end comes; at once if it has come. */
  onRaise(told: () => void): void {
    if (this.raised) told();
    else this.listeners.push(told);
  }

  raise(): void {
    check(!this.raised, 'something ends a second time');
    this.raised = true;
    for (const told of this.listeners.splice(0)) told();
  }
}
