/**
 * How the end of an operation is reported.
 *
 * Below the volume layer nothing is a promise: an operation is started with a *token*, and its end is a call of the handler
 * that the token names, with the *tag* that the handler chose. Completions come in batches; what is written during a
 * batch is submitted after it.
 */

/** Receives the ends of operations. */
export interface CompletionHandler {
  /**
   * @param tag what the handler put into the token, 0 to 2^22 - 1, or as many as it has registered for
   * @param result a count or a negative errno
   * @param flags `COMPLETION_*`
   */
  complete(tag: number, result: number, flags: number): void;
}

/** The operation was given up as overdue, and may still use its memory: see `Memory.whenFree`. */
export const COMPLETION_ABANDONED = 1;
/** Of engines only: an operation given up earlier has ended. No handler hears of it. */
export const COMPLETION_LATE = 2;
/** After this receive the socket held more. */
export const COMPLETION_MORE = 4;

/** The payload of a write has other checksums than it was to have (`DEVICE_SUMMED`): the device has not seen it. */
export const COMPLETION_MISMATCH = 8;

/** Bits of a token that are the tag, of a handler that asks for no fewer. */
export const TAG_BITS = 22;

/** Gives out tokens. */
export interface CompletionPort {
  /**
   * Adds a handler. Returns the token of its tag 0; other tags are added to it. `tagBits`: how many bits they have, at most
   * `TAG_BITS`. What a volume has of its own asks for few, as there may be many volumes.
   */
  register(handler: CompletionHandler, tagBits?: number): number;
  /** Removes a handler, none of whose operations may be in flight. */
  unregister(baseToken: number): void;
  /** Whether completions are being reported, so that the end of their batch is still to come. */
  readonly inBatch: boolean;
  /** Calls `callback` after each batch of completions, before submissions are handed over. */
  onBatchEnd(callback: () => void): void;
  /** Undoes `onBatchEnd`. */
  offBatchEnd(callback: () => void): void;
  /** Reports the end of an operation to the handler of its token, at once. */
  finish(token: number, result: number, flags: number): void;
  /** Completes `token` with `result` in a later batch. */
  defer(token: number, result: number): void;
}
