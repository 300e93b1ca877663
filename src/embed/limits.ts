/** What bounds arguments of the public API, and what a process has. */

/** Memory of block tables of a process, in bytes. */
export const TABLE_MEMORY_MIN = 16 << 20;
export const TABLE_MEMORY_MAX = 1 << 30;
/** What it is of a machine's memory if nobody says. */
export const TABLE_MEMORY_SHARE = 1 / 16;

/** Milliseconds that a load goes on. */
export const LOAD_MS_MAX = 3_600_000;
/** Bytes of a device's label. */
export const LABEL_BYTES_MAX = 63;
/** Bytes of the name of a host. */
export const HOST_BYTES_MAX = 255;
/** The largest count that a rule of faults takes. */
export const COUNT_MAX = 2 ** 32 - 1;
/** The largest error number that the system gives. */
export const ERRNO_MAX = 4095;
/** Shards of a process. */
export const SHARDS_MAX = 64;
/** Nodes whose devices one node uses. */
export const PEERS_MAX = 32;
/** Managers that are tried in turn. */
export const MANAGERS_MAX = 8;
/** Nodes that a volume is to lie on. */
export const ON_NODES_MAX = 64;
/** Labels of a node. */
export const LABELS_MAX = 16;
/** Bytes of the name or the value of a label. */
export const LABEL_TEXT_BYTES_MAX = 63;
