/**
 * Stream connections. A connection has at most one receive and one send in flight.
 */

/** Complete only when all bytes are there, or the stream ended. */
export const RECEIVE_WAIT_ALL = 8;
/** Nothing is expected to be there yet. */
export const RECEIVE_POLL_FIRST = 16;
/** The connection is one between nodes: of what is sent on it much may be on the way, and little waits to be. */
export const ACCEPT_PEER = 32;

/** Where somebody listens: a unix socket, or TCP at an IP address (no name) and a port. */
export type StreamAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** No file: `connect` could not even begin. */
export const NO_FILE = -1;

export interface Transport {
  /** Result: the file of a new connection. `flags`: 0 or `ACCEPT_PEER`. */
  accept(listener: number, token: number, flags?: number): void;
  /**
   * Asks for a connection, for as long as it takes: nothing here gives it up. Result: its file, or a negative errno
   * (`-ECONNREFUSED` and `-ENOENT` where nobody listens), with which there is nothing left to be closed.
   *
   * Returns the file that it will have, by which it can be given up: `shutdown` and `close` end it with `-ECANCELED`; or
   * `NO_FILE` if it has failed already, as its result will say. The token never ends within the call.
   */
  connect(address: StreamAddress, token: number): number;
  /** Result: bytes received; 0 at the end of the stream. */
  receive(file: number, memory: number, lengthBytes: number, flags: number, token: number): void;
  /** Adds a piece to the send that is being put together. */
  addPiece(memory: number, lengthBytes: number): void;
  /** Sends the pieces added since the last send, whole. Result: at least 0. */
  send(file: number, token: number): void;
  /** Makes what is in flight on a connection or listener end. */
  shutdown(file: number): void;
  /** Closes it, once nothing is in flight. */
  close(file: number): void;
}
