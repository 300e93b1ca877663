/**
 * Carries what an engine and a member in another process say to each other as the frames that would carry it between nodes: each
 * record is written, read and judged as there, and what arrives is what has been read.
 *
 * Nothing here goes wrong on the way, as connections do not change bytes: a frame that is refused is an error of the program, and
 * sums of blocks are written and not compared.
 */

import { check } from '../../core/check.js';
import { ENTRY_WORDS } from '../../layout/block-entry.js';
import type { Memory } from '../../ports/memory.js';
import { SegmentList } from '../../ports/segment-list.js';
import { REQUEST_ENTRIES, SegmentRequest } from '../../ports/segment-request.js';
import { Frame } from '../../wire/frame.js';
import { FRAME_READY, FrameReader } from '../../wire/framing.js';
import { LIST_ENTRIES_MAX, REQUEST_WORDS_MAX } from '../../wire/limits.js';
import { decodeList, decodeListReply, encodeList, encodeListReply, listReplyBytes } from '../../wire/list-codec.js';
import { FROM_ANSWERER, FROM_ASKER, HEADER_BYTES, LISTED_BYTES, PAGE_BYTES } from '../../wire/messages.js';
import {
  Answer,
  decodeReply,
  encodeReplies,
  encodeReply,
  getAnswer,
  getPacked,
  packedAt,
  putPacked,
  replyFlags,
  replyHeadBytes,
} from '../../wire/reply-codec.js';
import {
  decodeRequest,
  encodeRequest,
  ReplicaAddress,
  requestHeadBytes,
  requestPayloadBytes,
} from '../../wire/request-codec.js';
import { VERSION_MOST } from '../../wire/versions.js';
import { crc32c } from '../world/crc32c.js';

/** Room for the longest head of a request, or for the longest page of a list. */
const HEAD_BYTES = HEADER_BYTES + Math.max(4 * REQUEST_WORDS_MAX, PAGE_BYTES + LIST_ENTRIES_MAX * LISTED_BYTES);

/** Memory that frames are written to, apart from that of any process. */
class LineMemory implements Memory {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(length: number) {
    this.bytes = new Uint8Array(length);
    this.view = new DataView(this.bytes.buffer);
  }

  copy(to: number, from: number, lengthBytes: number): void {
    this.bytes.copyWithin(to, from, from + lengthBytes);
  }

  fill(at: number, lengthBytes: number, value: number): void {
    this.bytes.fill(value, at, at + lengthBytes);
  }

  carryOut(): void {}

  checksum(at: number, lengthBytes: number): number {
    return crc32c(this.bytes, at, lengthBytes);
  }

  whenFree(_at: number, _lengthBytes: number, done: () => void): void {
    done();
  }
}

/** What a member has answered. */
export interface LineAnswer {
  readonly result: number;
  /** `FENCE_*` of its device. */
  readonly fence: number;
}

export class WireLine {
  private readonly memory: LineMemory;
  private readonly frame = new Frame();
  private readonly address = new ReplicaAddress();
  private readonly answer = new Answer();
  private readonly entries = new Uint32Array(REQUEST_WORDS_MAX);
  private readonly requests: FrameReader;
  private readonly answers: FrameReader;
  private ids = 0;

  /** For a member whose chunks have so many bytes. */
  constructor(chunkBytes: number) {
    this.memory = new LineMemory(HEAD_BYTES + chunkBytes);
    this.requests = new FrameReader(this.memory, FROM_ASKER);
    this.answers = new FrameReader(this.memory, FROM_ANSWERER);
    this.requests.open(VERSION_MOST);
    this.answers.open(VERSION_MOST);
  }

  private read(reader: FrameReader, at: number, bytes: number): void {
    const found = reader.read(at, bytes);
    check(found === FRAME_READY, 'a frame that was written is refused', found);
    check(HEADER_BYTES + reader.frame.payload === bytes, 'a frame has another length than was written', bytes);
    check(reader.hasVector(at + HEADER_BYTES), 'the vector of a frame has another sum than was written');
  }

  /** The request as it arrives, with its blocks, which are `payload`. */
  request(request: SegmentRequest, payload: Uint8Array | null): SegmentRequest {
    const { memory, frame, requests } = this;
    const head = requestHeadBytes(request);
    const at = HEAD_BYTES - head;
    if (payload !== null) memory.bytes.set(payload, HEAD_BYTES);
    this.ids += 1;
    frame.request = this.ids;
    encodeRequest(memory, frame, at, request, this.address, HEAD_BYTES);
    this.read(requests, at, HEADER_BYTES + requestPayloadBytes(request));
    const copy = new SegmentRequest();
    const wrong = decodeRequest(memory, requests.frame, at + HEADER_BYTES, copy, this.entries);
    check(wrong === null, 'a request that was written is none');
    const words = (request.kind === REQUEST_ENTRIES ? 1 : 2) * copy.blocks * ENTRY_WORDS;
    if (copy.entries !== null) copy.entries = this.entries.slice(0, words);
    return copy;
  }

  /** Fills the answer of the request `from`, as it was carried out, into the one that is waiting for it. */
  reply(
    from: SegmentRequest,
    { result, fence }: LineAnswer,
    payload: Uint8Array | null,
    to: SegmentRequest,
  ): LineAnswer {
    const { memory, frame, answer, answers } = this;
    answer.result(result);
    answer.fence = fence;
    const flags = replyFlags(from, result);
    if (flags === 0) {
      this.pack();
      to.bad.clear();
      to.left.clear();
    } else {
      const at = HEAD_BYTES - replyHeadBytes(flags, from.blocks);
      if (payload !== null) memory.bytes.set(payload, HEAD_BYTES);
      encodeReply(memory, frame, at, answer, from, HEAD_BYTES);
      this.read(answers, at, HEADER_BYTES + frame.payload);
      const wrong = decodeReply(memory, answers.frame, at + HEADER_BYTES, to);
      check(wrong === null, 'an answer that was written is none');
      getAnswer(answers.frame, answer);
    }
    return { result: answer.asResult, fence: answer.fence };
  }

  private pack(): void {
    const { memory, frame, answer } = this;
    putPacked(memory.view, packedAt(0, 0), answer);
    this.read(this.answers, 0, encodeReplies(memory, frame, 0, 1));
    getPacked(memory.view, packedAt(0, 0), answer);
  }

  /** The list as it arrives. */
  list(list: SegmentList): SegmentList {
    const { memory, frame, requests } = this;
    this.ids += 1;
    frame.request = this.ids;
    this.read(requests, 0, encodeList(memory, frame, 0, list, this.address));
    const copy = new SegmentList();
    const wrong = decodeList(memory, requests.frame, HEADER_BYTES, copy);
    check(wrong === null, 'a list that was written is none');
    return copy;
  }

  /** Fills the page of a list, as a member has filled it, into the one that is waiting for it. */
  page(from: SegmentList, { result, fence }: LineAnswer, to: SegmentList): LineAnswer {
    const { memory, frame, answer, answers } = this;
    answer.result(result);
    answer.fence = fence;
    if (result < 0) this.pack();
    else {
      encodeListReply(memory, frame, 0, answer, from);
      this.read(answers, 0, listReplyBytes(from));
      const wrong = decodeListReply(memory, answers.frame, HEADER_BYTES, to);
      check(wrong === null, 'a page that was written is none');
      getAnswer(answers.frame, answer);
    }
    return { result: answer.asResult, fence: answer.fence };
  }
}
