/** Which messages between the processes of a cluster a test holds back. */

import type { SimMessage } from '#strake/sim/net/message-gate.js';
import {
  CALL_NAMES,
  FLAG_COPY,
  KIND_CALL,
  KIND_MAP_CHANGED,
  KIND_PING,
  KIND_PONG,
  KIND_REQUEST,
  KIND_STORE_MAP,
} from '#strake/wire/messages.js';

type Which = (message: SimMessage) => boolean;

function ofKind(kind: number): Which {
  return (message) => message.kind === kind;
}

export const anything: Which = () => true;
export const isPing = ofKind(KIND_PING);
export const isPong = ofKind(KIND_PONG);
export const isStoreMap = ofKind(KIND_STORE_MAP);
export const isMapChanged = ofKind(KIND_MAP_CHANGED);

/** Requests of this kind of `src/ports/segment-request.ts`. */
export function isRequest(kind: number): Which {
  return ofKind(KIND_REQUEST + kind);
}

/** A request of this kind by a job, which copies. */
export function isCopy(message: SimMessage): boolean {
  return (message.frame.flags & FLAG_COPY) !== 0;
}

/** A call of the manager. */
export function isCall(name: (typeof CALL_NAMES)[number]): Which {
  return ofKind(KIND_CALL + CALL_NAMES.indexOf(name));
}
