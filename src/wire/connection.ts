/**
 * A connection between nodes, whichever end: frames out of its stream, each with a sum that is right, and blocks where they are
 * wanted.
 *
 * ```text
 *   receive buffer   │ header │ vector or control payload │ blocks ... │ header │ ...
 *                               ▲ whole before anything is done          ▲ small ones are used from here, what is missing of
 *                                                                          the others is received straight to where they go
 * ```
 *
 * Fault model: the peer may be anybody, and may stop, stall or say anything at any byte. The first frame that is wrong ends the
 * connection, and so does a peer that is told so and does not go.
 */

import { CONNECTION_STAGING_BYTES, LARGE_PAYLOAD_BYTES } from '../core/limits.js';
import {
  type ConnectionParts,
  StreamConnection,
  type StreamedRequest,
  type StreamPart,
} from '../net/stream-connection.js';
import { encodeRefusal } from './control.js';
import { encodePayload, Frame } from './frame.js';
import { FRAME_REFUSED, FRAME_SHORT, type FrameProblem, FrameReader } from './framing.js';
import { HEADER_BYTES, KIND_REFUSED } from './messages.js';

export abstract class FrameConnection<
  Request extends StreamedRequest,
  Part extends StreamPart,
> extends StreamConnection<Request, Part> {
  /** For writing frames. */
  protected readonly frame = new Frame();
  protected readonly reader: FrameReader;
  /** Blocks that are still to come, where they go, and how many bytes of them have arrived. */
  private blocksAt = -1;
  private blocksBytes = 0;
  private blocksCame = 0;
  /** Header and vector that probably come next, before blocks that are better received where they go; 0 if they are not. */
  private headBytes = 0;
  /** Why the peer is to go, as it will be told. */
  private farewell: Uint8Array | null = null;

  /** @param from who sends what is read here: `FROM_*` */
  constructor(parts: Omit<ConnectionParts<Request>, 'headerBytes'>, index: number, from: number) {
    super({ ...parts, headerBytes: HEADER_BYTES }, index);
    this.reader = new FrameReader(parts.resources.memory, from);
  }

  // ---- what an end adds ----

  /**
   * A frame whose vector or control payload has arrived whole, at `vector`, and has the right sum. Returns false if it has to
   * wait for something; then nothing has been taken, and it comes again.
   */
  protected abstract takeFrame(frame: Frame, vector: number): boolean;
  /** The blocks of the last frame are there: at `source`, or where they go if that is -1. */
  protected abstract takeBlocks(source: number): void;
  /** The connection is over before the blocks of a frame have arrived. */
  protected abstract dropBlocks(): void;

  // ---- frames ----

  /** Begins with a new socket, and a handshake. */
  protected beginFrames(file: number, nowMs: number): void {
    this.begin(file, nowMs);
    this.reader.begin();
    this.blocksAt = -1;
    this.headBytes = 0;
    this.farewell = null;
  }

  /** The blocks of the frame that is being taken go to `memory`. */
  protected expectBlocks(memory: number, bytes: number): void {
    this.blocksAt = memory;
    this.blocksBytes = bytes;
    this.blocksCame = 0;
    // After many blocks come as many, more often than not.
    if (bytes >= LARGE_PAYLOAD_BYTES) this.headBytes = HEADER_BYTES + this.reader.vectorBytes;
  }

  /** Whether the next frame may be taken. */
  protected get reads(): boolean {
    // In the handshake each end speaks in its turn.
    return this.state === 'serving' || (this.state === 'handshake' && !this.sender.sending);
  }

  protected process(): void {
    while (this.reads && this.step());
    if (!this.reads || this.waiting || this.input.receiving) return;
    this.receive(this.headBytes);
  }

  /** Takes one frame, or the blocks of one. Returns false if more has to come, or something is waited for. */
  private step(): boolean {
    if (this.blocksAt >= 0) return this.fillBlocks();
    const { input, reader } = this;
    const found = reader.read(input.start, input.available);
    if (found === FRAME_SHORT) return false;
    if (found === FRAME_REFUSED) return this.refuse(reader.problem as FrameProblem);
    const bytes = HEADER_BYTES + reader.vectorBytes;
    if (input.available < bytes) return false;
    const vector = input.start + HEADER_BYTES;
    if (!reader.hasVector(vector)) return this.refuse(reader.problem as FrameProblem);
    this.headBytes = 0;
    if (!this.takeFrame(reader.frame, vector)) return false;
    input.take(bytes);
    return true;
  }

  private fillBlocks(): boolean {
    const { input, blocksAt, blocksBytes } = this;
    const { available } = input;
    if (available >= blocksBytes && this.blocksCame === 0) {
      const source = input.start;
      input.take(blocksBytes);
      this.blocksAt = -1;
      this.takeBlocks(source);
      return true;
    }
    if (available > 0) {
      this.resources.memory.copy(blocksAt, input.start, available);
      this.blocksCame = available;
      input.take(available);
    }
    this.receivingPayload = true;
    this.input.receiveTo(blocksAt + this.blocksCame, blocksBytes - this.blocksCame);
    return false;
  }

  protected receivedPayload(bytes: number): void {
    this.blocksCame += bytes;
    if (this.blocksCame < this.blocksBytes) {
      this.end('the stream ended within a payload');
      return;
    }
    this.blocksAt = -1;
    this.takeBlocks(-1);
  }

  protected get expectsPayload(): boolean {
    return this.blocksAt >= 0;
  }

  protected endPayload(): void {
    if (this.blocksAt < 0 || this.input.receiving) return;
    this.blocksAt = -1;
    this.dropBlocks();
  }

  // ---- frames of control ----

  /** Sends a frame from the staging area, in the handshake: nothing else is on its way then. */
  protected say(kind: number, payload: Uint8Array): void {
    if (HEADER_BYTES + payload.length > CONNECTION_STAGING_BYTES) throw new Error(`${payload.length} bytes to be said`);
    const { memory } = this.resources;
    const frame = this.frame.begin(kind, 0, 0);
    this.sendStaged(encodePayload(memory, frame, this.sender.stagingMemory, payload));
  }

  /** Tells the peer why it has to go, when what it has asked for before is answered. Returns false, as no more is taken. */
  refuse(problem: FrameProblem): false {
    if (this.state === 'closing' || this.state === 'free') return false;
    this.resources.counters.refused += 1;
    this.reason = problem.message;
    this.farewell = encodeRefusal(problem);
    this.state = 'draining';
    if (this.expectsPayload) this.end(problem.message);
    else this.endIfDrained();
    return false;
  }

  protected override endIfDrained(): void {
    if (this.requests > 0 || !this.sender.idle) return;
    const { farewell } = this;
    this.farewell = null;
    if (farewell !== null) this.say(KIND_REFUSED, farewell);
    else this.end(this.reason);
  }
}
