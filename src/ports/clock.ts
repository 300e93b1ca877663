/** Time. One coarse timer serves many deadlines; nothing sets a timer for each operation. */
export interface Clock {
  /** Milliseconds of a clock that never goes back. */
  nowMs(): number;
  /** Completes `token` after `delayMs` milliseconds. */
  after(delayMs: number, token: number): void;
}
