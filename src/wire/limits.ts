/** Bounds of the protocol between nodes. */

import { CHUNK_BLOCKS_MAX, LIST_PAGE_CHUNKS } from '../ports/limits.js';

/** Blocks of one data payload: those of a chunk. */
export const PAYLOAD_BLOCKS_MAX = CHUNK_BLOCKS_MAX;
/** Bytes of the payload of a request at the most: with each block two entries. */
export const REQUEST_BYTES_MAX = PAYLOAD_BLOCKS_MAX * (4096 + 2 * 16);
/** Words of entries that a request may bear or be answered with: two lists of 4 for each block. */
export const REQUEST_WORDS_MAX = 2 * PAYLOAD_BLOCKS_MAX * 4;
/** Bytes of a control payload, such as maps and lists. */
export const CONTROL_BYTES_MAX = 256 << 10;
/** Bytes of a payload of the handshake, before it is known who sends it. */
export const HELLO_BYTES_MAX = 16 << 10;
/** Bytes of the payload of PING, and of PONG: what a connection for them alone has room for. */
export const PING_BYTES_MAX = 32 << 10;
/** Answers that are packed into one frame: with its header they fit one page. */
export const PACKED_REPLIES_MAX = 160;
/** Entries of one page of a list. */
export const LIST_ENTRIES_MAX = LIST_PAGE_CHUNKS;
/** Chunks of a list are numbered below 2^48: those of 1 MiB each would hold 2^68 bytes. */
export const LISTED_CHUNK_MAX = 2 ** 48 - 1;
/** Numbers of errors of Linux end here; statuses of the protocol begin behind. */
export const STATUS_ERRNO_MAX = 255;
/** Maps in one frame. */
export const FRAME_MAPS_MAX = 64;
/** Bytes of a part of what managers are asked for or answer: so little that a manager can hold many connections. */
export const PART_BYTES_MAX = 32 << 10;
/** Parts of one call, and of one answer: the maps of 4096 groups, and the volumes of a large cluster. */
export const CALL_PARTS_MAX = 128;
export const ANSWER_PARTS_MAX = 512;
/** Maps of one call or answer: those of all groups of a volume, or of all volumes of a node. */
export const CALL_MAPS_MAX = 1 << 14;
/** Things of a kind that a call or an answer of a manager lists. */
export const CALL_LISTED_MAX = 1 << 16;
/** Features, addresses and devices that a control payload lists. */
export const LISTED_MAX = 256;
/** Bytes of a page of a list, from which on nothing more is put onto it. */
export const LIST_PAGE_BYTES = 1 << 20;
/** Bytes of a text in a control payload, such as an address. */
export const TEXT_BYTES_MAX = 512;
/** Bytes of the message of an error, and of its remedy. */
export const MESSAGE_BYTES_MAX = 4096;

/** Flush numbers have 40 bits on the wire: an engine that comes near attaches anew, as for its sequence numbers. */
export const FLUSH_NUMBER_MAX = 2 ** 40 - 1;
/** The credits that a node may grant to a session. */
export const CREDIT_REQUESTS_MAX = 1 << 16;
export const CREDIT_BYTES_MAX = 2 ** 32;
