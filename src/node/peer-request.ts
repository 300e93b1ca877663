/**
 * Requests of engines in other processes, from their arrival until their answers have been sent: made once and used again, with
 * the buffers that they use meanwhile.
 */

import type { PooledBuffer } from '../core/buffer-pool.js';
import { check } from '../core/check.js';
import type { ConnectionResources } from '../net/connection-resources.js';
import type { StreamedRequest, StreamPart } from '../net/stream-connection.js';
import { CHUNK_BLOCKS_MAX } from '../ports/limits.js';
import { SegmentList } from '../ports/segment-list.js';
import { SegmentRequest } from '../ports/segment-request.js';
import { REQUEST_WORDS_MAX } from '../wire/limits.js';
import type { Answer } from '../wire/reply-codec.js';
import { PEER_LISTS_MAX, PEER_REQUESTS_MAX } from './limits.js';
import type { OpenReplica } from './open-replica.js';
import type { GateWaiter } from './replica-gate.js';

/** The connection that a request came by, as it sees it. */
export interface RequestOrigin {
  /** It is admitted under the map that is answered now, or is told why not. */
  admit(request: PeerRequest): void;
  /** It has been answered, or the connection is over. */
  endRequest(request: PeerRequest): void;
  /** Writes a packed answer. */
  putAnswer(request: PeerRequest, memory: number): void;
}

/** A request; and, as a part of what is sent, its answer. */
export class PeerRequest implements StreamPart, StreamedRequest, GateWaiter {
  readonly index: number;
  connection: RequestOrigin | null = null;
  /** Where it is to be carried out; null for what is asked of the node, or of what is not open. */
  replica: OpenReplica | null = null;
  /** As its frame says. */
  kind = 0;
  id = 0;
  mapVersion = 0;
  incarnation = 0;
  /** Bytes of its payload, as credits count them. */
  payload = 0;
  readonly record = new SegmentRequest();
  list: SegmentList | null = null;
  buffer: PooledBuffer | null = null;
  /** Of its answer. */
  status = 0;
  value = 0;
  /** Whether it counts among what its session may ask for. */
  credited = false;
  private words: Uint32Array | null = null;
  private sumWords: Uint32Array | null = null;

  // Of the answer, as a part of what is sent.
  sendMemory = 0;
  sendLength = 0;
  last = true;
  following: StreamPart | null = null;
  readonly offset = 0;
  readonly length = 0;
  queued = 0;

  constructor(index: number) {
    this.index = index;
  }

  /** Room for entries, which few requests need. */
  get entries(): Uint32Array {
    this.words ??= new Uint32Array(REQUEST_WORDS_MAX);
    return this.words;
  }

  /** Room for the sums of its blocks. */
  get sums(): Uint32Array {
    this.sumWords ??= new Uint32Array(CHUNK_BLOCKS_MAX);
    return this.sumWords;
  }

  proceed(): void {
    check(this.connection !== null, 'a request goes on that is over', this.index);
    this.connection.admit(this);
  }

  /** Fills what every answer tells. */
  fill(answer: Answer): void {
    check(this.status >= 0 && this.value >= 0, 'an answer has a status that nobody could read', this.status);
    const { replica } = this;
    answer.request = this.id;
    answer.status = this.status;
    answer.value = this.value;
    answer.incarnation = replica?.incarnation ?? 0;
    answer.depth = replica?.member.outstanding ?? 0;
    answer.fence = replica?.member.fence() ?? 0;
    answer.fill = 0;
    answer.grains = 0;
    answer.entries = 0;
  }
}

/** The requests of a shard. */
export class PeerRequests {
  private readonly resources: ConnectionResources;
  private readonly made: PeerRequest[] = [];
  private readonly free: PeerRequest[] = [];
  private readonly freeLists: SegmentList[] = [];
  private lists = 0;

  constructor(resources: ConnectionResources) {
    this.resources = resources;
  }

  at(index: number): PeerRequest {
    check(this.made[index]?.connection !== null, 'a request ends that is over', index);
    return this.made[index];
  }

  /** Requests that are taken. */
  get inUse(): number {
    return this.made.length - this.free.length;
  }

  /** A request with a buffer of so many bytes, and a list if it asks for one; null if there is none free. */
  take(bytes: number, listed: boolean): PeerRequest | null {
    if (this.free.length === 0 && this.made.length === PEER_REQUESTS_MAX) return null;
    const list = listed ? this.takeList() : null;
    if (listed && list === null) return null;
    const buffer = bytes > 0 ? this.resources.takeBuffer(bytes) : null;
    if (bytes > 0 && buffer === null) {
      if (list !== null) this.freeLists.push(list);
      return null;
    }
    const request = this.free.pop() ?? this.make();
    request.buffer = buffer;
    request.list = list;
    request.status = 0;
    request.value = 0;
    check(request.connection === null, 'a request is given out that is in use', request.index);
    return request;
  }

  private make(): PeerRequest {
    const request = new PeerRequest(this.made.length);
    this.made.push(request);
    return request;
  }

  private takeList(): SegmentList | null {
    const list = this.freeLists.pop();
    if (list !== undefined || this.lists === PEER_LISTS_MAX) return list ?? null;
    this.lists += 1;
    return new SegmentList();
  }

  /** The kernel may still use the buffer of a request: it stays taken until that has ended. */
  quarantine(request: PeerRequest): void {
    if (request.buffer === null) return;
    this.resources.quarantineBuffer(request.buffer);
    request.buffer = null;
  }

  release(request: PeerRequest): void {
    check(request.connection !== null, 'a request is over twice', request.index);
    const { buffer, list } = request;
    if (buffer !== null) this.resources.releaseBuffer(buffer);
    if (list !== null) this.freeLists.push(list);
    request.buffer = null;
    request.list = null;
    request.connection = null;
    request.replica = null;
    this.free.push(request);
    this.resources.noteReleased();
  }
}
