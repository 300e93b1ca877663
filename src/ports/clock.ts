/** Time. One coarse timer serves many deadlines; nothing sets a timer for each operation. */
export interface Clock {
  /** Milliseconds of a clock that never goes back. */
  nowMs(): number;
  /** Completes `token` after `delayMs` milliseconds. */
  after(delayMs: number, token: number): void;
  /** Milliseconds of CLOCK_BOOTTIME, read anew: it counts what the host sleeps, and leases are counted by it. */
  boottimeMs(): number;
  /** Milliseconds of CLOCK_REALTIME, which somebody sets: only how it moves beside BOOTTIME says anything. */
  realtimeMs(): number;
}
