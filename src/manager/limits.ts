/** Bounds of what a manager keeps and answers. */

/** Maps in one answer to a heartbeat. */
export const HEARTBEAT_MAPS_MAX = 64;
/** Events that are kept; older ones are forgotten. */
export const EVENTS_KEPT_MAX = 4096;
/** Events in one answer. */
export const EVENTS_LISTED_MAX = 256;
/** Nodes and volumes of a cluster, and devices of a node. */
export const NODES_MAX = 1024;
export const VOLUMES_MAX = 10_000;
export const NODE_DEVICES_MAX = 1024;
/** Groups of one volume. */
export const VOLUME_GROUPS_MAX = 4096;
/** Clients that only read a volume, of which it is known when they were heard. */
export const READERS_MAX = 256;
/** How often a manager looks at what time alone changes. */
export const TICK_MS = 250;
/** Every how many of these it looks for volumes that nobody attends to. */
export const JANITOR_LOOK_TICKS = 4;
/** Volumes that one answer to a heartbeat asks a node to attach as a janitor. */
export const JANITOR_VOLUMES_MAX = 16;
/** How often the time doubles after which another node is asked. */
export const JANITOR_DOUBLINGS_MAX = 5;
/** Versions of maps end where those of the next epoch begin. */
export const EPOCH_VERSIONS = 2 ** 32;
/** Epochs of a cluster: 16 bits. */
export const EPOCH_MAX = 2 ** 16 - 1;
/** Generations of a volume: 24 bits. */
export const GENERATION_MAX = 2 ** 24 - 1;

/** Connections of clients and nodes to one manager, in all states. */
export const MANAGER_CONNECTIONS_MAX = 512;
/** Of these, connections that have not finished their handshake; a newer one displaces the one that waited longest. */
export const MANAGER_HANDSHAKES_MAX = 32;
/** Receive buffer of each: a part with its header, and some of the next. */
export const MANAGER_RECEIVE_BYTES = 48 << 10;
/** Calls of one session that are carried out at a time. */
export const SESSION_CALLS_MAX = 16;
/** Bytes of answers that wait for their client, from which on no more is taken from it. */
export const SESSION_ANSWER_BYTES_MAX = 1 << 20;
/** Volumes of whose maps one client is told. */
export const SESSION_VOLUMES_MAX = 1024;
/**
 * A session on which nothing arrives and nothing is taken for so long is over: its client asks twice a second whether we are
 * here.
 */
export const SESSION_SILENCE_MS = 30_000;
