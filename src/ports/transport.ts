/**
 * Stream connections. A connection has at most one receive and one send in flight.
 */

/** Complete only when all bytes are there, or the stream ended. */
export const RECEIVE_WAIT_ALL = 8;
/** Nothing is expected to be there yet. */
export const RECEIVE_POLL_FIRST = 16;

export interface Transport {
  /** Result: the file of a new connection. */
  accept(listener: number, token: number): void;
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
