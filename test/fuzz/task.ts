/** What a thread that fuzzes is told, and what it tells. */

export interface Task {
  readonly target: string;
  readonly seed: number;
  /** Inputs `from`, `from + step` and so on. */
  readonly from: number;
  readonly step: number;
  readonly seconds: number;
  /** Keep inputs that reach what none has reached. */
  readonly guided: boolean;
  /** Words: inputs begun, number of the input, its length; then the input. */
  readonly current: SharedArrayBuffer;
}

export const CURRENT_HEADER_WORDS = 3;

/** What a thread has done. */
export interface Done {
  readonly inputs: number;
  readonly kept: number;
  readonly seconds: number;
  /** What was found; empty if nothing. */
  readonly finding: string;
}
