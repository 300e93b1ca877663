/**
 * Requests that are answered without payload, writes and those that carry none either: from a validated header to the volume,
 * and from its completion to a reply.
 */

import { EPERM } from '../core/errno.js';
import type { ConnectionResources } from '../net/connection-resources.js';
import { COMPLETION_ABANDONED } from '../ports/completion.js';
import { DEVICE_FAST_ONLY, DEVICE_FUA, DEVICE_KEEP_ALLOCATED } from '../ports/device.js';
import type { Volume } from '../ports/volume.js';
import {
  CMD_CACHE,
  CMD_FLAG_FAST_ZERO,
  CMD_FLAG_FUA,
  CMD_FLAG_NO_HOLE,
  CMD_FLUSH,
  CMD_TRIM,
  CMD_WRITE_ZEROES,
} from './protocol.js';
import { nbdError } from './replies.js';
import type { NbdRequest, Piece, RequestConnection, RequestPool } from './requests.js';

export class Writes {
  private readonly resources: ConnectionResources;
  private readonly pool: RequestPool;
  private readonly writeToken: number;
  private readonly otherToken: number;
  /** By index; a request is found here when its operation ends. */
  private readonly others: (NbdRequest | undefined)[] = [];

  constructor(resources: ConnectionResources, pool: RequestPool) {
    this.resources = resources;
    this.pool = pool;
    const { completions } = resources.ports;
    this.writeToken = completions.register({ complete: (tag, result, flags) => this.endWrite(tag, result, flags) });
    this.otherToken = completions.register({ complete: (tag, result) => this.endOther(tag, result) });
  }

  close(): void {
    for (const token of [this.writeToken, this.otherToken]) this.resources.ports.completions.unregister(token);
  }

  /** Begins to write a piece whose payload lies at `source`, or already in its buffer if that is -1. */
  writePiece(request: NbdRequest, volume: Volume, piece: Piece, source: number): void {
    request.running += 1;
    const flags = (request.flags & CMD_FLAG_FUA) !== 0 ? DEVICE_FUA : 0;
    const token = this.writeToken + piece.buffer.index;
    this.resources.counters.bytesWritten += piece.length;
    if (source >= 0) volume.writeFrom(source, piece.memory, piece.length, piece.offset, flags, token);
    else volume.write(piece.memory, piece.length, piece.offset, flags, token);
  }

  private endWrite(index: number, result: number, flags: number): void {
    const piece = this.pool.pieces[index];
    const connection = piece.connection as RequestConnection;
    const request = piece.request as NbdRequest;
    request.running -= 1;
    if (result < 0 && request.error === 0) request.error = nbdError(result);
    if ((flags & COMPLETION_ABANDONED) !== 0) connection.quarantine(piece);
    else connection.releasePiece(piece);
    this.endIfDone(connection, request);
  }

  /** Replies once all payload has arrived and been dealt with. */
  endIfDone(connection: RequestConnection, request: NbdRequest): void {
    if (request.running > 0 || request.next < request.end) return;
    if (connection.closing) connection.endRequest(request);
    else connection.queueReply(request);
  }

  /** Begins a request without payload. */
  beginOther(request: NbdRequest, volume: Volume): void {
    const token = this.otherToken + request.index;
    this.others[request.index] = request;
    const fua = (request.flags & CMD_FLAG_FUA) !== 0 ? DEVICE_FUA : 0;
    switch (request.type) {
      case CMD_FLUSH:
        volume.flush(token);
        break;
      case CMD_TRIM:
        volume.discardRange(request.offset, request.length, fua, token);
        break;
      case CMD_WRITE_ZEROES: {
        const keep = (request.flags & CMD_FLAG_NO_HOLE) !== 0 ? DEVICE_KEEP_ALLOCATED : 0;
        const fast = (request.flags & CMD_FLAG_FAST_ZERO) !== 0 ? DEVICE_FAST_ONLY : 0;
        volume.zero(request.offset, request.length, fua | keep | fast, token);
        break;
      }
      default:
        // CACHE is advice, and there is no cache: I/O is direct.
        this.resources.ports.completions.defer(token, request.type === CMD_CACHE ? 0 : -EPERM);
    }
  }

  private endOther(index: number, result: number): void {
    const request = this.others[index] as NbdRequest;
    this.others[index] = undefined;
    const connection = request.connection as RequestConnection;
    if (result < 0) request.error = nbdError(result);
    if (connection.closing) connection.endRequest(request);
    else connection.queueReply(request);
  }
}
