/**
 * An NBD client for tests: it takes each step of the protocol by itself, checks what it is told, and can send anything.
 *
 * The numbers are written down here once more, from the specification, so that a wrong one in the product is found.
 */

import { type Target, Wire } from './nbd-wire.js';

export const GREETING_MAGIC = Buffer.from('NBDMAGICIHAVEOPT');
export const OPTION_MAGIC = Buffer.from('IHAVEOPT');
export const FLAGS_USUAL = 3;
export const FLAG_NO_ZEROES = 2;

export const OPT = {
  exportName: 1,
  abort: 2,
  list: 3,
  peekExport: 4,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

export const REP = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  unsupported: 0x80000001,
  policy: 0x80000002,
  invalid: 0x80000003,
  unknown: 0x80000006,
  tooBig: 0x80000009,
} as const;

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const CMD = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const FLAG = { fua: 1, noHole: 2, df: 4, one: 8, fastZero: 16 } as const;

export const TX = {
  hasFlags: 1,
  readOnly: 2,
  flush: 4,
  fua: 8,
  trim: 32,
  writeZeroes: 64,
  df: 128,
  multiConn: 256,
  cache: 1024,
  fastZero: 2048,
} as const;

export const EPERM = 1;
export const EIO = 5;
export const EINVAL = 22;
export const ENOSPC = 28;

const REQUEST_MAGIC = 0x25609513;
const SIMPLE_MAGIC = 0x67446698;
const CHUNK_MAGIC = 0x668e33ef;
const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;

/** Bytes of a big-endian number. */
export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** A text with its length in front. */
export function counted(text: string): Buffer {
  return Buffer.concat([u32(Buffer.byteLength(text)), Buffer.from(text)]);
}

/** An option; `length` may say something else than the truth. */
export function option(number: number, data: Uint8Array = Buffer.alloc(0), length = data.length): Buffer {
  return Buffer.concat([OPTION_MAGIC, u32(number), u32(length), data]);
}

/** Data of INFO and GO. */
export function infoData(name: string, wanted: readonly number[] = []): Buffer {
  return Buffer.concat([counted(name), u16(wanted.length), ...wanted.map(u16)]);
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function contextData(name: string, queries: readonly string[]): Buffer {
  return Buffer.concat([counted(name), u32(queries.length), ...queries.map(counted)]);
}

/** A request as it is sent, honest or not. */
export interface Request {
  readonly type: number;
  readonly flags?: number;
  readonly offset?: number | bigint;
  readonly length?: number;
  readonly payload?: Uint8Array;
}

/** The header of a request. */
export function header(request: Request, cookie: bigint): Buffer {
  const { type, flags = 0, offset = 0, length = request.payload?.length ?? 0 } = request;
  return Buffer.concat([u32(REQUEST_MAGIC), u16(flags), u16(type), u64(cookie), u64(offset), u32(length)]);
}

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

export interface Extent {
  readonly length: number;
  readonly flags: number;
}

/** What came back for a request. */
export interface Answer {
  readonly cookie: bigint;
  readonly request: Request;
  /** Error of the protocol, 0 for none. */
  error: number;
  /** What was read, complete if there is no error. */
  readonly data: Buffer;
  extents: Extent[];
  /** Chunks of a structured reply, 0 for a simple one. */
  chunks: number;
  /** Bytes of data that have come. */
  received: number;
}

interface Waiter {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

function check(condition: boolean, what: string): void {
  if (!condition) throw new Error(`against the protocol: ${what}`);
}

/** What a client wants of its handshake. */
export interface Wishes {
  readonly name?: string;
  /** Negotiate structured replies; then `base:allocation` too, unless `context` is false. */
  readonly structured?: boolean;
  readonly context?: boolean;
}

export class NbdClient {
  readonly wire: Wire;
  sizeBytes = 0;
  /** Transmission flags. */
  flags = 0;
  structured = false;
  private nextCookie = 0x0123456700000000n;
  private readonly open = new Map<bigint, Answer>();
  private readonly done = new Map<bigint, Answer>();
  private readonly waiters = new Map<bigint, Waiter>();
  private pumping = false;

  constructor(wire: Wire) {
    this.wire = wire;
  }

  /** Connects, and says nothing. */
  static async dial(target: Target): Promise<NbdClient> {
    return new NbdClient(await Wire.open(target));
  }

  /** Connects and exchanges greetings. */
  static async greet(target: Target, flags = FLAGS_USUAL): Promise<NbdClient> {
    const client = await NbdClient.dial(target);
    await client.greeting(flags);
    return client;
  }

  /** Connects and shakes hands: ready for requests. */
  static async connect(target: Target, wishes: Wishes = {}): Promise<NbdClient> {
    const client = await NbdClient.greet(target);
    await client.handshake(wishes);
    return client;
  }

  async greeting(flags: number): Promise<void> {
    const bytes = await this.wire.read(18);
    check(bytes.subarray(0, 16).equals(GREETING_MAGIC), 'the greeting');
    check(bytes.readUInt16BE(16) === 3, 'the handshake flags');
    this.wire.send(u32(flags));
  }

  async handshake(wishes: Wishes): Promise<void> {
    const { name = '', structured = false, context = true } = wishes;
    if (structured) {
      const [reply] = await this.haggle(OPT.structuredReply);
      check(reply.type === REP.ack, 'structured replies');
      this.structured = true;
      if (context) await this.haggle(OPT.setMetaContext, contextData(name, ['base:allocation']));
    }
    const replies = await this.haggle(OPT.go, infoData(name));
    const last = replies[replies.length - 1];
    if (last.type !== REP.ack) throw new Error(`refused with ${last.type.toString(16)}`);
    this.takeInfo(replies);
  }

  /** Takes size and flags from the replies to GO. */
  takeInfo(replies: readonly OptionReply[]): void {
    const info = replies.find(({ type, data }) => type === REP.info && data.readUInt16BE() === INFO.export);
    check(info !== undefined, 'the reply to GO describes the export');
    const data = (info as OptionReply).data;
    this.sizeBytes = Number(data.readBigUInt64BE(2));
    this.flags = data.readUInt16BE(10);
  }

  /** The next reply to an option. */
  async optionReply(): Promise<OptionReply> {
    const head = await this.wire.read(20);
    check(head.readBigUInt64BE() === OPTION_REPLY_MAGIC, 'the magic number of a reply to an option');
    const length = head.readUInt32BE(16);
    check(length <= 8192, 'the length of a reply to an option');
    return { option: head.readUInt32BE(8), type: head.readUInt32BE(12), data: await this.wire.read(length) };
  }

  /** All replies to the option that was sent, up to the acknowledgement or the error. */
  async optionReplies(number: number): Promise<OptionReply[]> {
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.optionReply();
      check(reply.option === number, `a reply to option ${number}, not to ${reply.option}`);
      replies.push(reply);
      if (reply.type === REP.ack || reply.type >= 0x80000000) return replies;
    }
  }

  /** Sends an option, and returns all replies to it. */
  haggle(number: number, data?: Uint8Array): Promise<OptionReply[]> {
    this.wire.send(option(number, data));
    return this.optionReplies(number);
  }

  /** Like `haggle`, where one reply is expected; returns its type. */
  async verdict(number: number, data?: Uint8Array): Promise<number> {
    const replies = await this.haggle(number, data);
    check(replies.length === 1, `one reply, not ${replies.length}`);
    return replies[0].type;
  }

  /** A new cookie, under which an answer is expected. */
  expect(request: Request): bigint {
    this.nextCookie += 1n;
    const cookie = this.nextCookie;
    const bytes = request.type === CMD.read ? (request.length ?? 0) : 0;
    // What an answer has no room for is not expected either: a request that cannot be honoured.
    const data = Buffer.alloc(bytes > 64 << 20 ? 0 : bytes);
    this.open.set(cookie, { cookie, request, error: 0, data, extents: [], chunks: 0, received: 0 });
    return cookie;
  }

  /** Sends a request, and returns the cookie for its answer. */
  submit(request: Request): bigint {
    const cookie = this.expect(request);
    this.wire.send(header(request, cookie), request.payload ?? Buffer.alloc(0));
    return cookie;
  }

  /** Sends requests in one go, and returns the cookies for their answers. */
  submitAll(requests: readonly Request[]): bigint[] {
    const cookies = requests.map((request) => this.expect(request));
    const parts = requests.flatMap((one, index) => [header(one, cookies[index]), one.payload ?? Buffer.alloc(0)]);
    this.wire.send(...parts);
    return cookies;
  }

  /** The answer with this cookie; rejects if the connection ends before it has come. */
  answer(cookie: bigint): Promise<Answer> {
    const come = this.done.get(cookie);
    if (come !== undefined) {
      this.done.delete(cookie);
      return Promise.resolve(come);
    }
    return new Promise((resolve, reject) => {
      this.waiters.set(cookie, { resolve, reject });
      void this.pump();
    });
  }

  answers(cookies: readonly bigint[]): Promise<Answer[]> {
    return Promise.all(cookies.map((cookie) => this.answer(cookie)));
  }

  ask(request: Request): Promise<Answer> {
    return this.answer(this.submit(request));
  }

  askAll(requests: readonly Request[]): Promise<Answer[]> {
    return this.answers(this.submitAll(requests));
  }

  /** The error that a request is answered with, 0 for none. */
  async errorOf(request: Request): Promise<number> {
    return (await this.ask(request)).error;
  }

  /** Reads messages as long as somebody waits for an answer. */
  private async pump(): Promise<void> {
    if (this.pumping) return;
    this.pumping = true;
    try {
      while (this.waiters.size > 0) {
        const answer = await this.message();
        if (answer === null) continue;
        this.open.delete(answer.cookie);
        const waiter = this.waiters.get(answer.cookie);
        this.waiters.delete(answer.cookie);
        if (waiter === undefined) this.done.set(answer.cookie, answer);
        else waiter.resolve(answer);
      }
    } catch (error) {
      const waiters = [...this.waiters.values()];
      this.waiters.clear();
      for (const { reject } of waiters) reject(error as Error);
    }
    this.pumping = false;
  }

  /** Reads one simple reply or chunk. Returns the answer if it is complete with it. */
  private async message(): Promise<Answer | null> {
    const magic = (await this.wire.read(4)).readUInt32BE();
    if (magic === CHUNK_MAGIC) return this.chunk();
    check(magic === SIMPLE_MAGIC, `a reply begins with ${magic.toString(16)}`);
    const head = await this.wire.read(12);
    const answer = this.answerFor(head.readBigUInt64BE(4));
    answer.error = head.readUInt32BE();
    if (answer.request.type === CMD.read) {
      check(!this.structured, 'a simple reply to a read where structured ones were agreed on');
      if (answer.error === 0) (await this.wire.read(answer.data.length)).copy(answer.data);
      answer.received = answer.data.length;
    }
    return answer;
  }

  private answerFor(cookie: bigint): Answer {
    const answer = this.open.get(cookie);
    check(answer !== undefined, `a reply to an unknown request ${cookie.toString(16)}`);
    return answer as Answer;
  }

  private async chunk(): Promise<Answer | null> {
    check(this.structured, 'a structured reply that was not agreed on');
    const head = await this.wire.read(16);
    const answer = this.answerFor(head.readBigUInt64BE(4));
    const length = head.readUInt32BE(12);
    answer.chunks += 1;
    await this.chunkPayload(answer, head.readUInt16BE(2), length);
    if ((head.readUInt16BE() & 1) === 0) return null;
    const complete = answer.error !== 0 || answer.received === answer.data.length;
    check(complete, `${answer.received} of ${answer.data.length} bytes came, and no error`);
    return answer;
  }

  private async chunkPayload(answer: Answer, type: number, length: number): Promise<void> {
    const data = await this.wire.read(length);
    if (type === 1) {
      const at = Number(data.readBigUInt64BE() - BigInt(answer.request.offset ?? 0));
      check(at >= 0 && at + length - 8 <= answer.data.length, 'a chunk lies outside of what was asked for');
      data.copy(answer.data, at, 8);
      answer.received += length - 8;
    } else if (type === 5) {
      check(data.readUInt32BE() === 1, 'the number of base:allocation');
      for (let at = 4; at < length; at += 8) {
        answer.extents.push({ length: data.readUInt32BE(at), flags: data.readUInt32BE(at + 4) });
      }
    } else {
      check(type === 0x8001 || type === 0x8002, `a chunk of type ${type}`);
      answer.error ||= data.readUInt32BE();
    }
  }

  async read(offset: number, length: number, flags = 0): Promise<Buffer> {
    const { error, data } = await this.ask({ type: CMD.read, flags, offset, length });
    if (error !== 0) throw new Error(`read failed with ${error}`);
    return data;
  }

  async write(offset: number, payload: Uint8Array, flags = 0): Promise<void> {
    const { error } = await this.ask({ type: CMD.write, flags, offset, payload });
    if (error !== 0) throw new Error(`write failed with ${error}`);
  }

  async flush(): Promise<void> {
    const { error } = await this.ask({ type: CMD.flush });
    if (error !== 0) throw new Error(`flush failed with ${error}`);
  }

  /** Says goodbye, and waits until the server closes. */
  async disconnect(): Promise<void> {
    this.wire.send(header({ type: CMD.disconnect }, 0n));
    await this.wire.expectEnd();
    await this.wire.destroy();
  }

  destroy(): Promise<void> {
    return this.wire.destroy();
  }
}
