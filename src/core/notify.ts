/**
 * An event that may come again and again, as promises: each resolves when it comes the next time.
 *
 * For control work, never for a client's reads and writes. Those who wait are told in the order in which they came; whoever is
 * told runs later, when something else may have begun, and looks again where that matters.
 */

export class Notify {
  private waiting: (() => void)[] = [];

  /** Resolves when the event comes the next time. */
  next(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** The event has come: tells all who wait now. */
  tell(): void {
    if (this.waiting.length === 0) return;
    const { waiting } = this;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }
}
