/** Progress on standard error: a line that is written over on a terminal, otherwise a line every ten seconds. */

import { formatBytes } from '../core/units.js';

const LINE_MS = 10_000;
const REDRAW_MS = 200;

/** Shows how far something is. It never goes back, and is below 100% until it is over. */
export class Progress {
  private readonly what: string;
  private readonly quiet: boolean;
  private readonly format: (amount: number) => string;
  private readonly startedMs = performance.now();
  private shownMs = Number.NEGATIVE_INFINITY;
  private most = 0;
  private open = false;

  /** `format` puts an amount into words; bytes if absent. */
  constructor(what: string, quiet = false, format = formatBytes) {
    this.what = what;
    this.quiet = quiet;
    this.format = format;
    // Without a terminal, what is over within ten seconds needs no line.
    if (!process.stderr.isTTY) this.shownMs = this.startedMs;
  }

  /** So much is done, of so much. */
  update(amountDone: number, amountTotal: number): void {
    const now = performance.now();
    if (this.quiet || now - this.shownMs < (process.stderr.isTTY ? REDRAW_MS : LINE_MS)) return;
    this.shownMs = now;
    this.most = Math.max(this.most, Math.min(amountDone, amountTotal));
    const line = this.line(amountTotal, (now - this.startedMs) / 1000);
    if (process.stderr.isTTY) {
      process.stderr.write(`\r${line}\u001b[K`);
      this.open = true;
    } else {
      process.stderr.write(`${line}\n`);
    }
  }

  private line(amountTotal: number, seconds: number): string {
    const part = amountTotal > 0 ? Math.min(0.999, this.most / amountTotal) : 0;
    const rate = this.most / seconds;
    const left = rate > 0 ? `, ${Math.ceil((amountTotal - this.most) / rate)} s left` : '';
    const done = `${this.format(this.most)} of ${this.format(amountTotal)}`;
    return `strake: ${this.what}: ${(100 * part).toFixed(1)}%, ${done}, ${this.format(Math.round(rate))}/s${left}`;
  }

  /** Removes the line from a terminal. */
  end(): void {
    if (this.open) process.stderr.write('\r\u001b[K');
    this.open = false;
  }
}
