/**
 * The connection of a session, at the end that asks: the handshake, requests as they leave, and answers as they come.
 *
 * An answer is taken only for what was asked for on this connection and waits: any other ends it. What a member has read goes to
 * where the request wants it, and is told when it is there.
 */

import { check } from '../../core/check.js';
import type { TimesHeard } from '../../core/cluster-times.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import type { ReplicaMap } from '../../layout/replica-map.js';
import type { ConnectionResources } from '../../net/connection-resources.js';
import type { ReplyFormat } from '../../net/send-queue.js';
import type { ClusterKey } from '../../ports/cluster-key.js';
import { REQUEST_ACCEPT, REQUEST_ENTRIES, REQUEST_READ, REQUEST_WRITE } from '../../ports/segment-request.js';
import { AskerConnection } from '../../wire/asker-connection.js';
import { decodeControl, type WelcomeFields } from '../../wire/control.js';
import { encodePayload, type Frame } from '../../wire/frame.js';
import type { FrameProblem } from '../../wire/framing.js';
import type { Agreement, HelloAsker } from '../../wire/hello.js';
import { REQUEST_BYTES_MAX, STATUS_ERRNO_MAX } from '../../wire/limits.js';
import { decodeListReply, encodeList, pageError } from '../../wire/list-codec.js';
import { decodeEitherMaps } from '../../wire/maps.js';
import {
  FROM_ANSWERER,
  HEADER_BYTES,
  KIND_MAP_CHANGED,
  KIND_OPEN,
  KIND_PONG,
  KIND_REPLIES,
  KIND_REPLY,
  LIST_BYTES,
  REPLY_BLOCKS,
  REPLY_JSON,
  REPLY_MAPS,
  STATUS_BAD_FRAME,
  STATUS_BAD_SUM,
} from '../../wire/messages.js';
import { WireRefusal } from '../../wire/refusal.js';
import { Answer, decodeReply, getAnswer, getPacked, packedAt, replySumsAt } from '../../wire/reply-codec.js';
import {
  encodeRequest,
  ReplicaAddress,
  requestHeadBytes,
  requestPayloadBytes,
  wrongBlock,
} from '../../wire/request-codec.js';
import { RECONNECT_MS } from '../limits.js';
import type { Asked, AskedPart, AskedTable, ControlAddress, ControlAnswer } from './asked.js';

/** The session that a connection is for. */
export interface AskingSession {
  readonly asked: AskedTable;
  /** The handshake is over. */
  welcomed(welcome: WelcomeFields & Agreement): void;
  /** Puts what waits on its way. */
  send(): void;
  /** An answer has come, whole. `value`: of a list, the entries of the page. */
  answered(asked: Asked, answer: Answer, value?: number): void;
  /** The same; who asked is told by `concludeIfSent`. */
  note(asked: Asked, answer: Answer): void;
  concludeIfSent(asked: Asked): void;
  conclude(asked: Asked): void;
  /** A replica that is open has the map of this version. */
  replicaChanged(replica: ControlAddress): void;
  /** There are newer maps than was thought. */
  mapsChanged(maps: readonly ReplicaMap[]): void;
  /** The node has said that it wants no session. */
  refused(): void;
  /** All that has been received has been looked at. */
  endIfDoomed(): void;
  /** The connection is no more. */
  broken(reason: string): void;
  /** Nothing uses what the connection used any more. */
  freed(): void;
}

/** What a shard provides to its connections. */
export interface AskingOwner {
  readonly resources: ConnectionResources;
  /** What proves the maps that nodes tell of. */
  readonly key: ClusterKey;
  readonly times: TimesHeard;
  readonly replies: ReplyFormat<Asked>;
  readonly receiveToken: number;
  readonly sendToken: number;
  /** Nothing is left of it; it can be used again. */
  onFree(connection: AskingConnection): void;
}

export class AskingConnection extends AskerConnection<Asked, AskedPart> {
  private readonly service: AskingOwner;
  private readonly address = new ReplicaAddress();
  private readonly answer = new Answer();
  private session: AskingSession | null = null;
  /** What the blocks that are being received answer, and where their sums lie. */
  private reading: Asked | null = null;
  private sums = 0;
  private readonly readAnswer = new Answer();
  /** Reads that have been answered, and whose blocks are there when copies have been carried out. */
  private read: Asked[] = [];
  /** Of the PONG that is being taken. */
  private leaseMs = 0;

  constructor(service: AskingOwner, index: number) {
    const { resources } = service;
    const tokens = { receiveToken: service.receiveToken + index, sendToken: service.sendToken + index };
    super({ resources, replies: service.replies, ...tokens }, index, FROM_ANSWERER);
    this.service = service;
  }

  /** Begins with a new socket. */
  open(file: number, nowMs: number, session: AskingSession, hello: HelloAsker): void {
    check(this.session === null, 'a connection is used for two sessions');
    check(this.read.length === 0, 'reads are left of an earlier session', this.read.length);
    this.session = session;
    this.greet(file, nowMs, hello);
  }

  /**
   * How long a session waits until it goes on by this connection, from when its last one broke. A node that has answered carries
   * out first what was asked on that one, which may take as long as any operation.
   */
  get patienceMs(): number {
    return this.answers ? this.service.times.now.deviceOperationMs : RECONNECT_MS;
  }

  private get owner(): AskingSession {
    check(this.session !== null, 'a connection is nobody’s');
    return this.session;
  }

  protected welcomed(welcome: WelcomeFields & Agreement): void {
    const { creditBytes } = welcome;
    if (creditBytes < REQUEST_BYTES_MAX) {
      const words = `it grants ${creditBytes} bytes, and a request may have ${REQUEST_BYTES_MAX}`;
      throw new WireRefusal(STATUS_BAD_FRAME, words);
    }
    this.owner.welcomed(welcome);
  }

  // ---- what is asked

  /** Bytes of header and vector. */
  static headBytes({ request, list, control }: Asked, payload: Uint8Array | null): number {
    if (request !== null) return requestHeadBytes(request);
    if (list !== null) return HEADER_BYTES + LIST_BYTES;
    check(control !== null, 'nothing is asked for');
    return HEADER_BYTES + (payload?.length ?? 0);
  }

  static payloadBytes({ request, list }: Asked, payload: Uint8Array | null): number {
    if (request !== null) return requestPayloadBytes(request);
    return list !== null ? LIST_BYTES : (payload?.length ?? 0);
  }

  /** Queues what is asked for, whose head has a buffer and whose id is new. The blocks of a write are in place. */
  ask(asked: Asked, session: number, payload: Uint8Array | null): void {
    const { memory } = this.resources;
    const { frame, address } = this;
    const { head, request, list, control, member } = asked;
    check(head !== null && this.state === 'serving', 'something is asked without a buffer', asked.slot);
    const at = head.memory;
    frame.begin(0, 0, asked.id);
    let bytes = 0;
    if (control !== null) {
      frame.kind = control.kind;
      const about = control.address();
      asked.about = about;
      if (about !== null) {
        address.volume.set(about.volumeId);
        address.group = about.group;
        address.member = about.index;
        address.mapVersion = about.mapVersion;
        address.incarnation = 0;
        address.put(frame);
      }
      frame.session = session;
      bytes = encodePayload(memory, frame, at, payload ?? new Uint8Array(0));
    } else {
      check(member !== null, 'a request is for no member', asked.slot);
      member.put(address);
      address.session = session;
      if (list !== null) bytes = encodeList(memory, frame, at, list, address);
      else if (request !== null) {
        encodeRequest(memory, frame, at, request, address, request.memory);
        bytes = requestHeadBytes(request);
      }
    }
    this.queueAsked(asked, at, bytes);
  }

  private queueAsked(asked: Asked, at: number, bytes: number): void {
    const { headPart, blocksPart, request } = asked;
    check(asked.sending === 0, 'a request is put on its way twice', asked.slot);
    check(bytes >= HEADER_BYTES, 'a request has no header', bytes);
    headPart.sendMemory = at;
    headPart.sendLength = bytes;
    asked.sending = 1;
    this.requests += 1;
    this.queuePiece(headPart);
    if (request === null || request.kind !== REQUEST_WRITE) return;
    blocksPart.sendMemory = request.memory;
    blocksPart.sendLength = request.blocks * BLOCK_BYTES;
    asked.sending = 2;
    this.queuePiece(blocksPart);
  }

  override flush(): void {
    if (this.state === 'serving') this.owner.send();
    super.flush();
  }

  /** Asks for `flush` at the end of the batch. */
  markAsked(): void {
    this.markDirty();
  }

  protected sent({ asked }: AskedPart): void {
    this.partEnded(asked);
  }

  protected dropPart({ asked }: AskedPart): void {
    this.partEnded(asked);
  }

  private partEnded(asked: Asked): void {
    asked.sending -= 1;
    check(asked.sending >= 0, 'more has been sent than was to be', asked.slot);
    if (asked.sending > 0) return;
    this.requests -= 1;
    if (asked.head !== null) this.resources.releaseBuffer(asked.head);
    asked.head = null;
    if (asked.answered) this.owner.conclude(asked);
  }

  // ---- what is answered

  protected declined(): void {
    this.session?.refused();
  }

  protected takeAnswer(frame: Frame, vector: number): string | null {
    switch (frame.kind) {
      case KIND_REPLIES:
        return this.takePacked(frame.count, vector);
      case KIND_REPLY:
        return this.takeReply(frame, vector);
      case KIND_PONG:
        return this.takePong(frame, vector);
      case KIND_MAP_CHANGED:
        return this.takeChange(frame, vector);
      default:
        return `frames of kind ${frame.kind} are no answers`;
    }
  }

  /** A replica that is open has another map. */
  private takeChange({ volume, group, member: index, payload }: Frame, vector: number): string | null {
    const [map, ...others] = this.maps(vector, payload);
    if (others.length > 0) return `${others.length + 1} maps come of one replica`;
    const { mapVersion } = map;
    this.owner.replicaChanged({ volumeId: volume.toString(), group, index, mapVersion });
    this.owner.mapsChanged([map]);
    return null;
  }

  private maps(at: number, bytes: number): readonly ReplicaMap[] {
    return decodeEitherMaps(this.payload(at, bytes), this.service.key);
  }

  private takePacked(count: number, vector: number): string | null {
    const { answer } = this;
    for (let index = 0; index < count; index += 1) {
      getPacked(this.resources.memory.view, packedAt(vector - HEADER_BYTES, index), answer);
      const asked = this.owner.asked.findLow(answer.request);
      if (asked === null) return `it answers request ${answer.request}, which was not asked or has been answered`;
      const { request, control } = asked;
      if (request !== null) {
        request.bad.clear();
        request.left.clear();
        const bears = answer.status === 0 && this.bears(asked);
        if (bears) return `request ${asked.id} is answered without what it has asked for`;
      } else if (asked.list !== null && answer.status === 0) return 'a list is answered without a page';
      if (control !== null) this.answerControl(asked, null);
      else this.owner.answered(asked, answer);
    }
    return null;
  }

  private bears({ request }: Asked): boolean {
    return request !== null && BEARING.has(request.kind);
  }

  private answerControl(asked: Asked, payload: Uint8Array | null, maps: ControlAnswer['maps'] = []): void {
    const { answer } = this;
    const { status, incarnation } = answer;
    asked.answer = { status, payload, maps, incarnation, leaseMs: this.leaseMs };
    this.owner.answered(asked, answer);
  }

  private takeReply(frame: Frame, vector: number): string | null {
    const { memory } = this.resources;
    const { answer } = this;
    const asked = this.owner.asked.find(frame.request);
    if (asked === null) return `it answers request ${frame.request}, which was not asked or has been answered`;
    getAnswer(frame, answer);
    const { request, list, control } = asked;
    if (control !== null) return this.takeControl(asked, frame, vector);
    if (answer.status > STATUS_ERRNO_MAX && frame.flags === REPLY_MAPS) {
      request?.bad.clear();
      request?.left.clear();
      this.owner.mapsChanged(this.maps(vector, frame.payload));
      this.owner.answered(asked, answer);
      return null;
    }
    if (list !== null) {
      const wrong = decodeListReply(memory, frame, vector, list) ?? pageError(list);
      if (wrong === null) this.owner.answered(asked, answer, list.count);
      return wrong;
    }
    check(request !== null, 'a reply is for nothing', asked.slot);
    const wrong = decodeReply(memory, frame, vector, request);
    if (wrong !== null) return wrong;
    if ((frame.flags & REPLY_BLOCKS) === 0) {
      this.owner.answered(asked, answer);
      return null;
    }
    this.reading = asked;
    this.sums = vector + replySumsAt(frame.flags);
    getAnswer(frame, this.readAnswer);
    this.expectBlocks(request.memory, request.blocks * BLOCK_BYTES);
    return null;
  }

  private takeControl(asked: Asked, frame: Frame, vector: number): string | null {
    const payload = this.payload(vector, frame.payload);
    const { status } = this.answer;
    if (frame.flags === REPLY_JSON && status === 0) {
      decodeControl(asked.control?.kind === KIND_OPEN ? 'opened' : 'stored', payload);
      this.answerControl(asked, payload);
    } else if (frame.flags === REPLY_MAPS) this.answerControl(asked, null, decodeEitherMaps(payload, this.service.key));
    else return `flags ${frame.flags} are no answer to what was asked of the node`;
    return null;
  }

  private takePong(frame: Frame, vector: number): string | null {
    const asked = this.owner.asked.find(frame.request);
    if (asked === null || asked.control === null) return 'a pong comes that was not asked for';
    const payload = this.payload(vector, frame.payload);
    decodeControl('pong', payload);
    this.answer.status = 0;
    this.answer.incarnation = 0;
    this.leaseMs = Math.floor(frame.microseconds / 1000);
    this.answerControl(asked, payload);
    this.leaseMs = 0;
    return null;
  }

  protected takeBlocks(source: number): void {
    const asked = this.reading as Asked;
    const { memory } = this.resources;
    check(asked !== null && !asked.answered, 'blocks come for what has been answered');
    this.reading = null;
    const { request } = asked;
    check(request !== null, 'blocks answer what asked for none', asked.slot);
    const wrong = wrongBlock(memory, this.sums, source >= 0 ? source : request.memory, request.blocks);
    if (wrong >= 0) {
      this.refuse({ status: STATUS_BAD_SUM, message: `READ: block ${wrong} has another sum than its vector says` });
      return;
    }
    if (source >= 0) memory.copy(request.memory, source, request.blocks * BLOCK_BYTES);
    this.owner.note(asked, this.readAnswer);
    this.read.push(asked);
  }

  protected override process(): void {
    super.process();
    this.tellRead();
    this.session?.endIfDoomed();
  }

  private tellRead(): void {
    if (this.read.length === 0) return;
    const { read, owner } = this;
    this.read = [];
    // Whoever has asked may look at the blocks as soon as it is told.
    this.resources.memory.carryOut();
    for (const asked of read) owner.concludeIfSent(asked);
  }

  protected dropBlocks(): void {
    this.reading = null;
  }

  // ---- the end

  override refuse(problem: FrameProblem): false {
    super.refuse(problem);
    // Nothing more is asked here; the node is told why before the connection ends.
    this.session?.broken(problem.message);
    return false;
  }

  override end(reason: string): void {
    if (this.state !== 'closing' && this.state !== 'free') {
      this.tellRead();
      this.session?.broken(reason);
    }
    super.end(reason);
  }

  protected override onFree(): void {
    const { session } = this;
    super.onFree();
    this.session = null;
    this.service.onFree(this);
    session?.freed();
  }
}

/** Kinds that are answered with a payload. */
const BEARING: ReadonlySet<number> = new Set([REQUEST_READ, REQUEST_ACCEPT, REQUEST_ENTRIES]);
