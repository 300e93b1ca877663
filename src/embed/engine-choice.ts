/** Which engine to use: io_uring where it is allowed, threads elsewhere, or what the environment says. */

import { StrakeError } from '../core/errors.js';
import type { EngineKind } from '../uring/engine.js';
import { native } from '../uring/native.js';

/** The choice and why it was made. */
export interface EngineChoice {
  readonly kind: EngineKind;
  /** Why io_uring is not used; empty if it is. */
  readonly reason: string;
  /** Whether the environment leaves no other choice. */
  readonly demanded: boolean;
}

/**
 * Chooses by `STRAKE_ENGINE` (`auto`, `io_uring` or `threads`). Throws `ERR_STRAKE_NO_ENGINE` if io_uring is demanded and
 * denied, and `ERR_STRAKE_INVALID_ARGUMENT` for any other word.
 */
export function chooseEngine(wanted: string = process.env.STRAKE_ENGINE ?? 'auto'): EngineChoice {
  if (wanted === 'threads') return { kind: 'threads', reason: 'STRAKE_ENGINE=threads', demanded: true };
  if (wanted !== 'auto' && wanted !== '' && wanted !== 'io_uring') {
    const words = 'auto, io_uring or threads';
    throw new StrakeError('INVALID_ARGUMENT', `STRAKE_ENGINE is ${words}, not ${JSON.stringify(wanted)}`);
  }
  const { available, reason, errno } = native().uringSupport();
  if (available) return { kind: 'io_uring', reason: '', demanded: wanted === 'io_uring' };
  if (wanted === 'io_uring') throw new StrakeError('NO_ENGINE', reason, { errno });
  return { kind: 'threads', reason, demanded: false };
}
