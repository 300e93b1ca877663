/** What bounds volumes alone. Bounds that others share are in `src/core/limits.ts`. */

/** Bits of the tags of what a volume has of its own: pieces, requests, members. */
export const VOLUME_TAG_BITS = 16;
/** The largest sequence number of a write: 40 bits. */
export const SEQUENCE_MAX = 2 ** 40 - 1;
/** Chunks modified since the last flush began from which on an engine flushes by itself. */
export const OWN_FLUSH_CHUNKS = 1024;
/** How often blocks are compared anew that have changed when they were about to be made equal, as what is late comes but once. */
export const COMPARISONS_MAX = 8;

/** Connections to nodes of one shard. */
export const SESSIONS_MAX = 32;
/** Receive buffer of each: the longest control payload, its header, and part of the next frame. */
export const SESSION_RECEIVE_BYTES = 320 << 10;
/** Buffers of a shard for headers and vectors on their way to members, and for what is said to nodes. */
export const SESSION_BUFFER_CLASSES: readonly { bytes: number; count: number }[] = [
  { bytes: 4 << 10, count: 512 },
  { bytes: 16 << 10, count: 64 },
];
/**
 * Payload of requests that is gathered into one send: all that a batch of completions has led to, as a rule, and less than a
 * socket buffers. The node at the other end begins with the first while it receives the others.
 */
export const SESSION_SEND_BYTES = 128 << 10;
/** What is asked for on one session and has not been answered: a power of two, of which ids have room for a number. */
export const SESSION_ASKED_MAX = 1 << 16;
/** How often a session looks at its deadlines. */
export const SESSION_TICK_MS = 250;
/** The same while its node does not answer: by so much at the most it is given up late. */
export const SESSION_ALERT_TICK_MS = 50;
/** Time until a node answers on a new connection when one has broken; one that does has that of an operation to serve. */
export const RECONNECT_MS = 1_000;
/** The same if it has said nothing for long on the last one: less than a tick, at which that is looked at. */
export const SILENT_RECONNECT_MS = 200;
/** Time for a first connection. */
export const CONNECT_MS = 5_000;
/** How long after a connection for pings was asked for another one is. */
export const PING_LINE_RETRY_MS = 1_000;
/** Receive buffer of a connection for pings: the longest answer with its header, and a page that more begins in. */
export const PING_RECEIVE_BYTES = 40 << 10;
/** How long after a session has failed another one is tried. */
export const SESSION_RETRY_MS = 500;

/** Calls of a session with a manager that have been sent and not answered; more wait. */
export const CALLS_SENT_MAX = 16;
/** Calls that wait for a manager. */
export const CALLS_WAITING_MAX = 4096;
/** Time for a call, connections that break meanwhile included. */
export const CALL_MS = 10_000;
/** Receive buffer of the connection to a manager: a part with its header, and some of the next. */
export const CALLING_RECEIVE_BYTES = 48 << 10;

/** How long a reader waits before it compares copies again that differ: at first, and at most. */
export const AGREED_PAUSE_MS = 2;
export const AGREED_PAUSE_MS_MAX = 100;
