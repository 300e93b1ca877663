/**
 * What a session may have asked for and not had answered: requests, and bytes of their payloads. The node grants it in WELCOME
 * and cuts off who exceeds it; the client waits for answers before it asks for more. So what a node has to hold is bounded by
 * what it has granted, whatever a client sends.
 */

import { check } from '../core/check.js';

export class Credits {
  /** Not answered yet. */
  requests = 0;
  bytes = 0;
  private readonly requestsMost: number;
  private readonly bytesMost: number;

  constructor(requests: number, bytes: number) {
    this.requestsMost = requests;
    this.bytesMost = bytes;
  }

  /** Whether one more with such a payload is within what was granted. */
  mayTake(payload: number): boolean {
    return this.requests < this.requestsMost && this.bytes + payload <= this.bytesMost;
  }

  /** Counts a request. Returns false, and counts nothing, if it is beyond what was granted. */
  take(payload: number): boolean {
    if (!this.mayTake(payload)) return false;
    this.requests += 1;
    this.bytes += payload;
    return true;
  }

  /** A request with such a payload has been answered. */
  give(payload: number): void {
    this.requests -= 1;
    this.bytes -= payload;
    check(this.requests >= 0, 'more is answered in a session than was asked for', this.requests);
    check(this.bytes >= 0, 'more bytes are answered in a session than were sent', this.bytes);
  }
}
