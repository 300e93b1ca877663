/** What bounds the admin API of a manager. */

/** Bytes of a request's body. */
export const ADMIN_BODY_MAX = 64 << 10;
/** Bytes of a request's headers. */
export const ADMIN_HEADERS_MAX = 8 << 10;
/** Connections in all states. */
export const ADMIN_CONNECTIONS_MAX = 64;
/** Requests of one connection, after which it is closed. */
export const ADMIN_CONNECTION_REQUESTS_MAX = 10_000;
/** Time for the headers of a request, and for all of it. */
export const ADMIN_HEADERS_MS = 10_000;
export const ADMIN_REQUEST_MS = 30_000;
/** For how long an idle connection is kept. */
export const ADMIN_IDLE_MS = 5_000;
/** For how long an answer to a probe holds: anybody may ask. */
export const PROBE_MS = 1_000;
/** Bytes of a name, an id or a number in a path. */
export const ADMIN_PARAMETER_MAX = 768;
