/**
 * Every bound of the system, in one place. Nothing that a client, a device or another thread can cause is unbounded.
 *
 * Sizes end in `Bytes`, times in `Ms`; everything else is a count.
 */

/** The unit of request ordering, and of buffer alignment. */
export const BLOCK_BYTES = 4096;
/** The unit of atomicity. */
export const SECTOR_BYTES = 512;

/** Submission entries that one flush carries; more are flushed in parts. */
export const SUBMISSIONS = 1024;
/** Entries of the table of vectors of gathered sends. */
export const VECTORS = 4096;
/** Completions delivered in one callback. */
export const COMPLETIONS = 1024;
/** Vectors in one send (the engine's own bound is 128). */
export const SEND_VECTORS_MAX = 96;

/** Operations in flight in one shard. */
export const SHARD_OPERATIONS_MAX = 8192;
/** Open devices, listeners and connections of one shard. */
export const SHARD_FILES_MAX = 1024;
/** What all engines of a process register of the memory that may be locked; the rings, and other processes, need some too. */
export const LOCKED_SHARE = 0.5;
/** Memory that an engine addresses, its own and that of another: completions tell places as numbers of 32 bits with a sign. */
export const ADDRESSED_BYTES_MAX = 2 ** 31 - 1;
/** Threads of the thread-pool engine, per shard. */
export const ENGINE_THREADS = 16;

/** Connections of one shard, in all states. */
export const CONNECTIONS_MAX = 512;
/** Connections that have not finished their handshake; a newer one displaces the one that waited longest. */
export const HANDSHAKES_MAX = 128;
/** Time for a handshake. */
export const HANDSHAKE_MS = 10_000;
/** Receive buffer that each connection owns. */
export const CONNECTION_RECEIVE_BYTES = 16 << 10;
/** Each of the two areas in which a connection collects replies without payload. */
export const CONNECTION_STAGING_BYTES = 4 << 10;
/** Receive buffers for busy connections, shared by all of a shard. */
export const BULK_BUFFERS = 16;
export const BULK_BUFFER_BYTES = 512 << 10;
/** Payloads from here on are received where the device reads them; smaller ones are copied out of a common receive. */
export const LARGE_PAYLOAD_BYTES = 64 << 10;
/** Payload bytes gathered into one send: enough to be cheap, little enough that replies leave while the device works. */
export const SEND_BYTES_MAX = 16 << 10;
/** A connection that makes no progress for this long is dropped while others wait for what it holds. */
export const STALL_MS = 5_000;

/** Requests of one connection in flight. */
export const CONNECTION_REQUESTS_MAX = 256;
/** Requests of one shard in flight. */
export const SHARD_REQUESTS_MAX = 4096;
/** Bytes of buffers that the requests of one connection may hold. */
export const CONNECTION_BUFFERS_SHARE = 0.5;

/** Buffers by size, smallest first. A request takes the smallest that holds it, or a larger one. */
export const BUFFER_CLASSES: readonly { bytes: number; count: number }[] = [
  { bytes: 4 << 10, count: 1024 },
  { bytes: 64 << 10, count: 128 },
  { bytes: 1 << 20, count: 40 },
];
/** The largest piece in which a request is carried out; larger ones are streamed through several buffers. */
export const CHUNK_BYTES = 1 << 20;
/** Chunks of one request in flight. */
export const CHUNKS_IN_FLIGHT = 8;

/** The largest payload of an NBD request. */
export const NBD_PAYLOAD_BYTES_MAX = 32 << 20;
/** Longest export name that is looked for (a limit of the protocol). */
export const NBD_NAME_BYTES_MAX = 4096;
/** Longest name and longest description of an export of ours. */
export const EXPORT_TEXT_BYTES_MAX = 1024;
/** Longest data of an option that is looked at; longer is skipped and refused. */
export const NBD_OPTION_BYTES_MAX = 8 << 10;
/** Longest data of an option that is skipped; longer ends the connection. */
export const NBD_OPTION_SKIP_BYTES_MAX = 1 << 20;
/** Options in one handshake. */
export const NBD_OPTIONS_MAX = 128;
/** Extents in one reply to BLOCK_STATUS. */
export const NBD_EXTENTS_MAX = 256;

/** Scratch blocks for read-modify-write, in pairs: head and tail. */
export const PATCHES_MAX = 16;
/** Modifying operations of one volume in flight: those of all NBD requests, of their chunks, and of a client's requests. */
export const MODIFICATIONS_MAX = 6144;
/** Members of a placement group: copies of a segment. */
export const COPIES_MAX = 3;
/** Discarded segments of a group that are remembered until they are released; of more, a job or a scrub finds the slots. */
export const DISCARDS_NOTED_MAX = 65536;
/** Segments of a group that are released at the same time. */
export const RELEASES_AT_ONCE = 4;
/** Segments of one page of the map of what a member has. */
export const SEGMENT_MAP_PAGE = 4096;
/** Members that a request of a volume may be sent to: a bit each in a word, and a position in a tag. */
export const GROUP_MEMBERS_MAX = 32;
/** Reads of one volume in flight; each holds a buffer of its shard, or of a client. */
export const VOLUME_READS_MAX = 2048;
/** Requests of one volume in flight. */
export const VOLUME_REQUESTS_MAX = MODIFICATIONS_MAX + VOLUME_READS_MAX;
/** Parts in flight of all requests of a volume that had to be cut; jobs hold fewer runs of blocks than that. */
export const VOLUME_PARTS_MAX = 1024;
/** Pieces of one volume in flight: of its requests, of their parts, and of jobs. */
export const PIECES_MAX = VOLUME_REQUESTS_MAX + 2 * VOLUME_PARTS_MAX;
/** Parts of one such request in flight. */
export const REQUEST_PARTS = 4;
/** Segments that one such request passes over in one go because there is nothing to do in them. */
export const REQUEST_SKIPS = 4096;
/** Lists over which the operations in flight of a volume are spread by segment; a power of two. */
export const ORDER_LISTS = 1024;
/** Buffers for copying between the members of volumes, and their size. */
export const COPY_BUFFERS = 8;
export const COPY_BYTES = 1 << 20;
/** Segments that a resync copies at the same time: without and with requests of clients in flight. */
export const RESYNC_DEPTH = 3;
export const RESYNC_DEPTH_BUSY = 1;
/** Segments that are reconciled at the same time, each in a buffer, and blocks of each, each in a page of that. */
export const RECONCILE_SEGMENTS = 8;
export const RECONCILE_BLOCKS = 32;
/** How long a job waits at a time: one that is cancelled, or its volume, is not kept longer by its rate. */
export const JOB_STEP_MS = 100;
/** Ids of jobs that one worker gives; those of the worker that replaces it come after. */
export const JOB_IDS_PER_WORKER = 1_000_000;
/** Jobs of a node that have ended and are still listed. */
export const JOBS_KEPT_MAX = 64;
/** How long a job that yields to clients waits before it looks again. */
export const RESYNC_YIELD_MS = 5;
/** Operations in flight of one volume's control work: more than if every piece waited for slots on all its members. */
export const CONTROL_CALLS_MAX = 65536;

/** Operations of one store in flight. */
export const STORE_OPERATIONS_MAX = 8192;
/** Transfers of one store in flight, each with a place for its checksums; more wait. */
export const STORE_TRANSFERS_MAX = 2048;
/** Blocks of a write up to which its records are sent along with its content. */
export const STORE_EARLY_BLOCKS_MAX = 4;
/** Control calls that wait for a store: maps that are to be stored, and flushes that are to be remembered. */
export const STORE_CALLS_MAX = 65536;

/** The most bytes that one device operation discards or zeroes. */
export const RANGE_STEP_BYTES = 256 << 20;

/** A device operation that takes longer makes its device count as dead. */
export const IO_TIMEOUT_MS = 30_000;
/** How often overdue operations and stalled connections are looked for while there are any. */
export const WATCH_MS = 1_000;
/** Time for requests in flight when a server is closed. */
export const DRAIN_MS = 10_000;

/** Devices of one shard. */
export const SHARD_DEVICES_MAX = 32;

/** Longest name of a volume, in bytes of UTF-8. */
export const VOLUME_NAME_BYTES_MAX = 255;
/** Longest path that the system takes. */
export const PATH_BYTES_MAX = 4095;
/** The longest time that closing a server may be told to wait for requests in flight. */
export const DRAIN_MS_MAX = 3_600_000;
/** The most devices that can be named as lost in one call: more than any volume has. */
export const LOST_DEVICES_MAX = 64;
/** Faults that can be injected into one shard. */
export const FAULT_RULES_MAX = 1024;
/** Digits of an id by which a device may be named: fewer could be a slip of the finger. */
export const ID_DIGITS_MIN = 4;
/** Paths that may be named as a node's devices. */
export const NODE_PATHS_MAX = 2048;
/** How long a start waits for devices that do not answer: first until they say who they are, then until they are open. */
export const DEVICE_WAIT_MS = 15_000;
export const DEVICE_WAIT_MS_MAX = 3_600_000;
/** Time in which the name of a device is looked up; where that takes longer, its aliases are not recognised. */
export const IDENTIFY_MS = 2_000;

/** Formatted devices of one shard of a node, and volumes that a node serves at a time. */
export const SHARD_STORES_MAX = 32;
export const NODE_VOLUMES_MAX = 1000;
/** Formatted devices of a node that serves them to others: PONG has room for so many, beside what it tells of leases. */
export const SERVED_STORES_MAX = 96;
/** Volumes whose memory is registered with the kernel; that of more is touched when there are so many. */
export const VOLUMES_REGISTERED = 32;
/** Shards of a node beside the first that run engines of volumes, and volumes of each. */
export const ENGINE_SHARDS_MAX = 8;
export const ENGINES_THERE_MAX = 256;
/** Deleted volumes that wait for one device from which on the status warns; devices have room for 256 volumes. */
export const DELETED_VOLUMES_MANY = 128;

/** Requests of an in-process client in flight on one shard. */
export const CLIENT_REQUESTS_MAX = 256;
/** Its buffers there. */
export const CLIENT_BUFFER_CLASSES: readonly { bytes: number; count: number }[] = [
  { bytes: 4 << 10, count: 256 },
  { bytes: 128 << 10, count: 16 },
  { bytes: 1 << 20, count: 4 },
];
/** The largest piece in which its requests cross to the shard. */
export const CLIENT_CHUNK_BYTES = 1 << 20;
/** Entries of the rings between it and the shard: requests, and replies with what was late. */
export const CLIENT_RING_ENTRIES = 1024;

/** Time in which a dead worker's devices and sockets must have come free, so that its successor can take them over. */
export const TAKEOVER_MS = 15_000;
/** Time for device operations in flight when a shard is stopped. */
export const STOP_GRACE_MS = 5_000;

/** BOOTTIME and REALTIME that move apart by so much between two readings: the process may have been away without noticing. */
export const CLOCKS_APART_MS = 100;
/** What a client uses of a lease, from the sending of its question on: clocks do not run at quite the same rate. */
export const LEASE_SHARE = 0.9;
