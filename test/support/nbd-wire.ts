/**
 * A socket from which exact numbers of bytes are read, for tests that speak a protocol by hand.
 *
 * Nothing is read from the socket before it is asked for, but for what fits its buffer, so a peer that does not read its
 * replies is a wire that nobody reads from.
 */

import { createConnection, type Socket } from 'node:net';

/** Where a server listens: a unix socket, or a port of the loopback interface. */
export type Target = string | number;

/** A wait that only a hang reaches. */
const HANG_MS = 30_000;

/** The stream ended before all bytes came that were asked for. */
export class StreamEnd extends Error {
  constructor(wanted: number, got: number) {
    super(`the stream ended after ${got} of ${wanted} bytes`);
  }
}

export class Wire {
  readonly socket: Socket;
  /** Resolves when the connection is over, whoever ended it. */
  readonly closed: Promise<void>;
  private over = false;
  private wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('readable', () => this.wake());
    socket.on('end', () => this.finish());
    // A reset is an end like any other; tests look at what came before it.
    socket.on('error', () => this.finish());
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.finish();
        resolve();
      });
    });
  }

  private finish(): void {
    this.over = true;
    this.wake();
  }

  /** Connects; a full backlog of a unix socket is an error (EAGAIN), as the system reports it. */
  static open(target: Target): Promise<Wire> {
    const socket = typeof target === 'string' ? createConnection(target) : createConnection(target, '127.0.0.1');
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new Wire(socket));
      });
    });
  }

  /** Whether all that was sent has been taken by the system. */
  send(...parts: readonly Uint8Array[]): boolean {
    return this.socket.write(parts.length === 1 ? parts[0] : Buffer.concat(parts));
  }

  /** Sends, and resolves when the system has taken everything, or the connection is over. */
  async push(...parts: readonly Uint8Array[]): Promise<void> {
    const taken = new Promise<void>((resolve) => {
      this.socket.write(Buffer.concat(parts), () => resolve());
    });
    await Promise.race([taken, this.closed]);
  }

  /** Sends one byte at a time, each in a write of its own. */
  async dribble(bytes: Uint8Array): Promise<void> {
    for (const byte of bytes) await this.push(Uint8Array.of(byte));
  }

  /** Exactly this many bytes; throws `StreamEnd` if the stream ends before. One reader at a time. */
  async read(bytes: number): Promise<Buffer> {
    if (bytes === 0) return Buffer.alloc(0);
    for (;;) {
      const part = this.socket.read(bytes) as Buffer | null;
      if (part !== null && part.length === bytes) return part;
      if (part !== null || this.over) throw new StreamEnd(bytes, part?.length ?? 0);
      await this.more();
    }
  }

  /** Resolves when there may be more to read, or nothing will come any more. */
  private more(): Promise<void> {
    return new Promise((resolve, reject) => {
      const hung = setTimeout(() => reject(new Error('waited in vain for the peer')), HANG_MS);
      this.wake = () => {
        clearTimeout(hung);
        resolve();
      };
    });
  }

  /** Reads and drops everything up to the end of the stream. Returns the number of bytes. */
  async drain(): Promise<number> {
    let bytes = 0;
    for (;;) {
      const part = this.socket.read() as Buffer | null;
      if (part !== null) bytes += part.length;
      else if (this.over) return bytes;
      else await this.more();
    }
  }

  /** Resolves when the peer has closed; throws if it sends anything before. */
  async expectEnd(): Promise<void> {
    const bytes = await this.drain();
    if (bytes > 0) throw new Error(`${bytes} bytes came where the connection should have been closed`);
  }

  /** Drops the connection. */
  async destroy(): Promise<void> {
    this.socket.destroy();
    await this.closed;
  }
}
