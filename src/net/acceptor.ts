/** Takes connections from a listener, one after another, until it is closed. After an error it waits before it tries again. */

import { check } from '../core/check.js';
import type { NetPorts } from './connection-resources.js';

/** Wait before accepting again after an error. */
const ACCEPT_RETRY_MS = 100;
const TAG_ACCEPT = 0;
const TAG_RETRY = 1;

export interface AcceptorHooks {
  /** `ACCEPT_PEER` or 0. */
  readonly flags: number;
  /** Takes a new socket. Returns false if there is no place for it, and it is to be closed. */
  welcome(file: number): boolean;
  /** It has been closed, and nothing of it is under way any more. */
  onQuiet(): void;
}

export class Acceptor {
  private readonly ports: NetPorts;
  private readonly listener: number;
  private readonly hooks: AcceptorHooks;
  private readonly token: number;
  private accepting = false;
  private retrying = false;
  private isClosing = false;

  /** Begins to accept on `listener`. */
  constructor(ports: NetPorts, listener: number, hooks: AcceptorHooks) {
    this.ports = ports;
    this.listener = listener;
    this.hooks = hooks;
    this.token = ports.completions.register({
      complete: (tag, result) => (tag === TAG_ACCEPT ? this.onAccept(result) : this.onRetry()),
    });
    this.accept();
  }

  get closing(): boolean {
    return this.isClosing;
  }

  /** Whether nothing of it is under way. */
  get quiet(): boolean {
    return !this.accepting && !this.retrying;
  }

  private accept(): void {
    if (this.isClosing || this.accepting) return;
    this.accepting = true;
    this.ports.transport.accept(this.listener, this.token + TAG_ACCEPT, this.hooks.flags);
  }

  private onAccept(result: number): void {
    this.accepting = false;
    if (result >= 0) this.welcome(result);
    if (this.isClosing) {
      this.hooks.onQuiet();
    } else if (result >= 0) {
      this.accept();
    } else {
      // Short of descriptors or memory, most likely; trying again at once would only burn a core.
      this.retrying = true;
      this.ports.clock.after(ACCEPT_RETRY_MS, this.token + TAG_RETRY);
    }
  }

  private onRetry(): void {
    this.retrying = false;
    if (this.isClosing) this.hooks.onQuiet();
    else this.accept();
  }

  private welcome(file: number): void {
    if (!this.isClosing && this.hooks.welcome(file)) return;
    this.ports.transport.shutdown(file);
    this.ports.transport.close(file);
  }

  /** Takes no more, and gives the listener up. */
  close(): void {
    if (this.isClosing) return;
    this.isClosing = true;
    this.ports.transport.shutdown(this.listener);
    this.ports.transport.close(this.listener);
  }

  /** Gives up the handler, once it is closed and quiet. */
  dispose(): void {
    check(this.isClosing && this.quiet, 'a listener is given up that is in use', this.listener);
    this.ports.completions.unregister(this.token);
  }
}
