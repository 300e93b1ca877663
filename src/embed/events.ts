/**
 * What happens to a node by itself, on the diagnostics channel `strake:event`: subscribe with
 * `node:diagnostics_channel` to log it or to raise an alarm.
 */

import { channel } from 'node:diagnostics_channel';
import type { StrakeError } from '../core/errors.js';

export type StrakeEvent =
  /** A device takes no more writes (`fence` 1), or nothing at all (2), until it is opened again. */
  | { readonly type: 'device-fenced'; readonly path: string; readonly fence: number }
  /** A worker has ended, and another has taken over its devices and servers. */
  | { readonly type: 'shard-replaced'; readonly shard: number }
  /** A worker has ended and could not be replaced, or a device or server could not be set up again. */
  | { readonly type: 'shard-lost'; readonly shard: number; readonly error: StrakeError }
  /** A server of a node could not listen again after that, at this path or `HOST:PORT`. */
  | { readonly type: 'server-lost'; readonly address: string; readonly error: StrakeError };

const events = channel('strake:event');

export function publish(event: StrakeEvent): void {
  if (events.hasSubscribers) events.publish(event);
}
