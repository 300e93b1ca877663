/** One end of a connection that speaks the native protocol, over any transport: for tests of frames on their way. */

import type { CompletionPort } from '#strake/ports/completion.js';
import type { Memory } from '#strake/ports/memory.js';
import type { Transport } from '#strake/ports/transport.js';
import { encodePayload, Frame } from '#strake/wire/frame.js';
import { FRAME_READY, FRAME_REFUSED, FrameReader } from '#strake/wire/framing.js';
import { HEADER_BYTES } from '#strake/wire/messages.js';

export interface PeerPorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly transport: Transport;
}

/** Operations of a transport as promises of their results. */
export class Operations {
  readonly ports: PeerPorts;
  private readonly waiting: ((result: number) => void)[] = [];
  private readonly base: number;

  constructor(ports: PeerPorts) {
    this.ports = ports;
    this.base = ports.completions.register({ complete: (tag, result) => this.waiting[tag](result) });
  }

  result(start: (token: number) => void): Promise<number> {
    return new Promise((resolve) => start(this.base + this.waiting.push(resolve) - 1));
  }
}

/** A frame that has arrived whole: where, until the next one is asked for. */
export interface Arrived {
  readonly frame: Frame;
  readonly at: number;
  /** A copy of what follows the header. */
  readonly payload: Uint8Array;
}

export class WirePeer {
  readonly reader: FrameReader;
  private readonly operations: Operations;
  private readonly file: number;
  private readonly area: number;
  private readonly areaBytes: number;
  private first = 0;
  private last = 0;

  /** @param area memory for what arrives, of `areaBytes` */
  constructor(operations: Operations, file: number, from: number, area: number, areaBytes: number) {
    this.operations = operations;
    this.file = file;
    this.area = area;
    this.areaBytes = areaBytes;
    this.reader = new FrameReader(operations.ports.memory, from);
  }

  /** Sends bytes that lie in memory as one piece, or as several. */
  async send(...pieces: readonly (readonly [at: number, bytes: number])[]): Promise<void> {
    const { transport } = this.operations.ports;
    const result = await this.operations.result((token) => {
      for (const [at, bytes] of pieces) transport.addPiece(at, bytes);
      transport.send(this.file, token);
    });
    if (result < 0) throw new Error(`nothing is sent: ${-result}`);
  }

  /** Sends a frame with a control payload, by way of memory at `at`. */
  async say(at: number, kind: number, payload: Uint8Array): Promise<void> {
    const { memory } = this.operations.ports;
    await this.send([at, encodePayload(memory, new Frame().begin(kind, 0, 0), at, payload)]);
  }

  /** The next frame, whole and with right sums. */
  async next(): Promise<Arrived> {
    const { memory, transport } = this.operations.ports;
    for (;;) {
      const at = this.area + this.first;
      const found = this.reader.read(at, this.last - this.first);
      if (found === FRAME_REFUSED) throw new Error(this.reader.problem?.message);
      const { frame } = this.reader;
      if (found === FRAME_READY && this.last - this.first >= HEADER_BYTES + frame.payload) {
        if (!this.reader.hasVector(at + HEADER_BYTES)) throw new Error(this.reader.problem?.message);
        this.first += HEADER_BYTES + frame.payload;
        const payload = memory.bytes.slice(at + HEADER_BYTES, at + HEADER_BYTES + frame.payload);
        return { frame, at, payload };
      }
      const [to, room] = [this.area + this.last, this.areaBytes - this.last];
      const result = await this.operations.result((token) => transport.receive(this.file, to, room, 0, token));
      if (result <= 0) throw new Error(`the connection has ended: ${result}`);
      this.last += result;
    }
  }
}
