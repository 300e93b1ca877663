/** Bounds of what a node does for engines in other processes. */

/** Connections of nodes to one shard, in all states. */
export const PEER_CONNECTIONS_MAX = 64;
/** Of these, connections that have not finished their handshake; a newer one displaces the one that waited longest. */
export const PEER_HANDSHAKES_MAX = 16;
/** Receive buffer of each: the longest control payload, its header, and part of the next frame. */
export const PEER_RECEIVE_BYTES = 320 << 10;
/** Buffers of a shard for requests of nodes and their answers. */
export const PEER_BUFFER_CLASSES: readonly { bytes: number; count: number }[] = [
  { bytes: 4 << 10, count: 512 },
  { bytes: 16 << 10, count: 32 },
  // One for each connection for pings, with its header.
  { bytes: 36 << 10, count: 32 },
  { bytes: 128 << 10, count: 32 },
  { bytes: 1 << 20, count: 24 },
];
/** Payload of answers that is gathered into one send; what has been read waits for nobody. */
export const PEER_SEND_BYTES = 64 << 10;
/** Requests of one session that have not been answered: what it is granted. */
export const SESSION_REQUESTS_MAX = 256;
/** Requests of all sessions of a shard. */
export const PEER_REQUESTS_MAX = 2048;
/** Pages of lists that are filled at a time. */
export const PEER_LISTS_MAX = 8;
/** Bits of the tags of what is on its way through a gate: pieces of one volume, and its control work. */
export const PASSAGE_TAG_BITS = 18;
/** Replicas that one session may have open. */
export const SESSION_REPLICAS_MAX = 1024;
/** Versions of maps that managers decide bear the epoch of the cluster, from 1 on, above 32 bits. */
export const MANAGED_VERSION_LEAST = 2 ** 32;
/** Leases of a replica from which on those that have ended are looked for whenever one is granted. */
export const LEASES_SWEPT = 64;
