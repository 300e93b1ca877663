/**
 * The flushes of a volume: points in its history, which tell what came before and what after.
 */

import type { FlushNumber, Generation } from '../ports/ids.js';

/** A flush of a volume; `NO_FLUSH` before the first. Later ones have a higher generation, or the same one and a higher number. */
export interface FlushId {
  readonly generation: Generation;
  readonly flushNumber: FlushNumber;
}

export const NO_FLUSH: FlushId = { generation: 0, flushNumber: 0 };

/** Order of two flushes: negative, zero or positive. */
export function compareFlushes(one: FlushId, other: FlushId): number {
  return one.generation - other.generation || one.flushNumber - other.flushNumber;
}

/** Whether `one` lies before `other`. */
export function isBefore(one: FlushId, other: FlushId): boolean {
  if (one.generation !== other.generation) return one.generation < other.generation;
  return one.flushNumber < other.flushNumber;
}
