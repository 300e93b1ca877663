/** Whether and how Strake runs here. */

import { StrakeError } from '../core/errors.js';
import { native } from '../uring/native.js';
import { chooseEngine } from './engine-choice.js';

export interface Support {
  /** Whether the native addon loads. */
  readonly supported: boolean;
  /** The engine that will be used; null if none can be. */
  readonly engine: 'io_uring' | 'threads' | null;
  /** Why it is not io_uring, or why nothing works; empty if all is well. */
  readonly reason: string;
  /** The limit of locked memory, which bounds registered buffers; infinite if there is none. */
  readonly memlockBytes: number;
}

/** What the addon finds on this machine; throws `ERR_STRAKE_UNSUPPORTED_PLATFORM` where it does not load. */
export function nativeFacts() {
  const addon = native();
  return {
    uring: addon.uringSupport(),
    memlockBytes: addon.memlockLimitBytes(),
    crc32cKernel: addon.crc32cKernel(),
  };
}

/** Tells without throwing whether and how Strake runs here. */
export function support(): Support {
  try {
    const { kind, reason } = chooseEngine();
    return { supported: true, engine: kind, reason, memlockBytes: nativeFacts().memlockBytes };
  } catch (error) {
    const loads = !(error instanceof StrakeError && error.code === 'ERR_STRAKE_UNSUPPORTED_PLATFORM');
    const reason = error instanceof Error ? error.message : String(error);
    return { supported: loads, engine: null, reason, memlockBytes: 0 };
  }
}
