/** What bounds the control socket of a node. */

/** Bytes of a request's body. */
export const CONTROL_BODY_MAX = 64 << 10;
/** Bytes of an answer that is taken. */
export const ANSWER_BYTES_MAX = 64 << 20;
/** Bytes of the path of a unix socket (sun_path of unix(7), without its end). */
export const SOCKET_PATH_MAX = 107;
