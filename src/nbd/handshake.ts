/**
 * The handshake of one connection: fixed newstyle option haggling.
 *
 * Pure protocol: it looks at received bytes, writes replies, and says what comes next. It answers one option at a time, so
 * a client that sends many and reads nothing costs no memory. Replies that do not fit the area that they are written to
 * leave in parts: the next part is written once the one before has been sent, so a listing is complete however long it is.
 * Lengths are checked before anything is done with them: too long to be of interest is skipped and refused, too long to be
 * honest ends the connection.
 *
 * There is no TLS, so `STARTTLS` is refused and nothing can be injected before or downgraded from it.
 */

import {
  NBD_NAME_BYTES_MAX,
  NBD_OPTION_BYTES_MAX,
  NBD_OPTION_SKIP_BYTES_MAX,
  NBD_OPTIONS_MAX,
  NBD_PAYLOAD_BYTES_MAX,
} from '../core/limits.js';
import type { Writer } from '../net/writer.js';
import type { Memory } from '../ports/memory.js';
import type { NbdExport } from './export.js';
import {
  BASE_ALLOCATION,
  BASE_ALLOCATION_ID,
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  INFO_BLOCK_SIZE,
  INFO_DESCRIPTION,
  INFO_EXPORT,
  INFO_NAME,
  NBD_MAGIC_HIGH,
  NBD_MAGIC_LOW,
  OPT_ABORT,
  OPT_EXPORT_NAME,
  OPT_GO,
  OPT_INFO,
  OPT_LIST,
  OPT_LIST_META_CONTEXT,
  OPT_SET_META_CONTEXT,
  OPT_STRUCTURED_REPLY,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
  REP_ACK,
  REP_ERR_INVALID,
  REP_ERR_POLICY,
  REP_ERR_TOO_BIG,
  REP_ERR_UNKNOWN,
  REP_ERR_UNSUP,
  REP_INFO,
  REP_META_CONTEXT,
  REP_SERVER,
  TX_SEND_DF,
} from './protocol.js';

/** What the connection does next. */
export type Step =
  /** Receive more. */
  | 'more'
  /** Go on: there was nothing to answer. */
  | 'next'
  /** Send what was written, then go on. */
  | 'reply'
  /** Send what was written, then serve requests. */
  | 'serve'
  /** Send what was written, then close. */
  | 'close';

/** What the server offers, as far as a handshake cares. */
export interface Offer {
  readonly exports: ReadonlyMap<string, NbdExport>;
  /** Whether one more connection may be served. */
  admit(): boolean;
}

/** A reply to an option: its type and its data. */
type Reply = readonly [type: number, data: Uint8Array];

const NOTHING = new Uint8Array(0);

export class Handshake {
  /** Set when the outcome is `serve`. */
  chosen: NbdExport | null = null;
  structured = false;
  /** Whether the client asked for `base:allocation` of the export that it chose. */
  allocationContext = false;
  private readonly memory: Memory;
  private readonly offer: Offer;
  private greeted = false;
  private noZeroes = false;
  private options = 0;
  private skipBytes = 0;
  private skippedOption = 0;
  private contextExport: string | null = null;
  /** Replies to the option being answered that have not been written yet, and what is to be done after the last. */
  private replies: Iterator<Reply> | null = null;
  private repliesTo = 0;
  private afterReplies: Step = 'reply';
  /** What has not been written yet of a reply that was begun. */
  private unwritten: Uint8Array = NOTHING;
  /** Bytes of input that the last step used up. */
  used = 0;

  constructor(memory: Memory, offer: Offer) {
    this.memory = memory;
    this.offer = offer;
  }

  /** What the server says first. */
  static greet(out: Writer): void {
    out.u32(NBD_MAGIC_HIGH).u32(NBD_MAGIC_LOW).u32(OPTION_MAGIC_HIGH).u32(OPTION_MAGIC_LOW);
    out.u16(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
  }

  /** Looks at the bytes from `start` to `end`, uses up `used` of them, and writes what is to be sent to `out`. */
  step(start: number, end: number, out: Writer): Step {
    this.used = 0;
    if (this.replies !== null) return this.writeReplies(this.replies, out);
    if (this.skipBytes > 0) return this.skip(end - start, out);
    if (!this.greeted) return this.takeClientFlags(start, end);
    const { view } = this.memory;
    if (end - start < OPTION_HEADER_BYTES) return 'more';
    if (view.getUint32(start) !== OPTION_MAGIC_HIGH || view.getUint32(start + 4) !== OPTION_MAGIC_LOW) return 'close';
    const option = view.getUint32(start + 8);
    const length = view.getUint32(start + 12);
    if (length > NBD_OPTION_SKIP_BYTES_MAX) return 'close';
    if (length > NBD_OPTION_BYTES_MAX) {
      this.used = OPTION_HEADER_BYTES;
      this.skipBytes = length;
      this.skippedOption = option;
      return this.skip(end - start - OPTION_HEADER_BYTES, out);
    }
    if (end - start < OPTION_HEADER_BYTES + length) return 'more';
    this.used = OPTION_HEADER_BYTES + length;
    if (!this.countOption()) return 'close';
    return this.answer(option, start + OPTION_HEADER_BYTES, length, out);
  }

  /** Counts an option that has arrived whole. False if that was one too many. */
  private countOption(): boolean {
    this.options += 1;
    return this.options <= NBD_OPTIONS_MAX;
  }

  private skip(available: number, out: Writer): Step {
    const skipped = Math.min(available, this.skipBytes);
    this.skipBytes -= skipped;
    this.used += skipped;
    if (this.skipBytes > 0) return 'more';
    if (this.skippedOption === OPT_SET_META_CONTEXT) this.contextExport = null;
    if (this.skippedOption === OPT_EXPORT_NAME || !this.countOption()) return 'close';
    return this.refuse(out, this.skippedOption, REP_ERR_TOO_BIG);
  }

  private takeClientFlags(start: number, end: number): Step {
    if (end - start < 4) return 'more';
    const flags = this.memory.view.getUint32(start);
    if ((flags & ~(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)) !== 0) return 'close';
    this.used = 4;
    this.noZeroes = (flags & FLAG_NO_ZEROES) !== 0;
    this.greeted = true;
    return 'next';
  }

  private answer(option: number, at: number, length: number, out: Writer): Step {
    switch (option) {
      case OPT_EXPORT_NAME:
        return this.exportName(at, length, out);
      case OPT_ABORT:
        return this.reply(out, option, [[REP_ACK, NOTHING]], 'close');
      case OPT_LIST:
        return length > 0 ? this.refuse(out, option, REP_ERR_INVALID) : this.list(out);
      case OPT_INFO:
      case OPT_GO:
        return this.info(option, at, length, out);
      case OPT_STRUCTURED_REPLY:
        if (length > 0) return this.refuse(out, option, REP_ERR_INVALID);
        this.structured = true;
        return this.reply(out, option, [[REP_ACK, NOTHING]]);
      case OPT_LIST_META_CONTEXT:
      case OPT_SET_META_CONTEXT:
        return this.metaContext(option, at, length, out);
      default:
        return this.refuse(out, option, REP_ERR_UNSUP);
    }
  }

  /** Answers an option with these replies, which are asked for as there is room for them; `after` follows the last. */
  private reply(out: Writer, option: number, replies: Iterable<Reply>, after: Step = 'reply'): Step {
    this.repliesTo = option;
    this.afterReplies = after;
    const iterator = replies[Symbol.iterator]();
    this.replies = iterator;
    return this.writeReplies(iterator, out);
  }

  /** Writes as much as there is room for. A reply that does not fit is broken off, and goes on in the next part. */
  private writeReplies(replies: Iterator<Reply>, out: Writer): Step {
    for (;;) {
      const part = this.unwritten.subarray(0, out.room);
      out.bytes(part);
      this.unwritten = this.unwritten.subarray(part.length);
      if (this.unwritten.length > 0) return 'reply';
      const next = replies.next();
      if (next.done) break;
      const [type, data] = next.value;
      this.unwritten = Buffer.concat([optionReplyHeader(this.repliesTo, type, data.length), data]);
    }
    this.replies = null;
    return this.afterReplies;
  }

  private refuse(out: Writer, option: number, error: number): Step {
    return this.reply(out, option, [[error, NOTHING]]);
  }

  private text(at: number, length: number): string {
    return Buffer.from(this.memory.bytes.slice(at, at + length)).toString('utf8');
  }

  /** This option has no way to report an error but closing. */
  private exportName(at: number, length: number, out: Writer): Step {
    const found = length <= NBD_NAME_BYTES_MAX ? this.offer.exports.get(this.text(at, length)) : undefined;
    if (found === undefined || !this.offer.admit()) return 'close';
    this.choose(found);
    out.u64(found.volume.sizeBytes).u16(this.flagsOf(found));
    if (!this.noZeroes) out.zeroes(124);
    return 'serve';
  }

  private choose(found: NbdExport): void {
    this.chosen = found;
    this.allocationContext = this.contextExport === found.name;
  }

  private flagsOf(found: NbdExport): number {
    return found.flags | (this.structured ? TX_SEND_DF : 0);
  }

  private list(out: Writer): Step {
    // What is offered may change while the parts leave: the list tells what there was when it was asked for.
    return this.reply(out, OPT_LIST, listing([...this.offer.exports.values()]));
  }

  private info(option: number, at: number, length: number, out: Writer): Step {
    const { view } = this.memory;
    const nameLength = length >= 6 ? view.getUint32(at) : Number.POSITIVE_INFINITY;
    const known = nameLength + 6 <= length ? view.getUint16(at + 4 + nameLength) : Number.POSITIVE_INFINITY;
    if (nameLength + 6 + known * 2 !== length) return this.refuse(out, option, REP_ERR_INVALID);
    if (nameLength > NBD_NAME_BYTES_MAX) return this.refuse(out, option, REP_ERR_TOO_BIG);
    const found = this.offer.exports.get(this.text(at + 4, nameLength));
    if (found === undefined) return this.refuse(out, option, REP_ERR_UNKNOWN);
    if (option === OPT_GO && !this.offer.admit()) return this.refuse(out, option, REP_ERR_POLICY);
    // Each once: a client that asks for the same thing many times learns nothing more from it.
    const wanted = new Set<number>();
    for (let index = 0; index < known; index += 1) wanted.add(view.getUint16(at + 6 + nameLength + index * 2));
    if (option === OPT_GO) this.choose(found);
    return this.reply(out, option, this.description(found, wanted), option === OPT_GO ? 'serve' : 'reply');
  }

  /** Block sizes are told unasked too: a client that ignores them does nothing wrong, as any alignment is served. */
  private *description(found: NbdExport, wanted: ReadonlySet<number>): Generator<Reply> {
    const { sizeBytes, preferredBlockBytes } = found.volume;
    const size = Buffer.alloc(8);
    size.writeBigUInt64BE(BigInt(sizeBytes));
    yield [REP_INFO, Buffer.concat([u16(INFO_EXPORT), size, u16(this.flagsOf(found))])];
    const sizes = u32(1, preferredBlockBytes, NBD_PAYLOAD_BYTES_MAX);
    yield [REP_INFO, Buffer.concat([u16(INFO_BLOCK_SIZE), sizes])];
    if (wanted.has(INFO_NAME)) yield [REP_INFO, Buffer.concat([u16(INFO_NAME), Buffer.from(found.name)])];
    if (wanted.has(INFO_DESCRIPTION)) {
      yield [REP_INFO, Buffer.concat([u16(INFO_DESCRIPTION), Buffer.from(found.description)])];
    }
    yield [REP_ACK, NOTHING];
  }

  private metaContext(option: number, at: number, length: number, out: Writer): Step {
    const set = option === OPT_SET_META_CONTEXT;
    // Whatever comes of it, a new choice replaces the old one.
    if (set) this.contextExport = null;
    const parsed = this.structured ? this.parseQueries(at, length) : null;
    if (parsed === null) return this.refuse(out, option, REP_ERR_INVALID);
    const { name, queries } = parsed;
    if (!this.offer.exports.has(name)) return this.refuse(out, option, REP_ERR_UNKNOWN);
    const everything = !set && queries.length === 0;
    const asked = (query: string) => query === BASE_ALLOCATION || (!set && query === 'base:');
    if (!everything && !queries.some(asked)) return this.reply(out, option, [[REP_ACK, NOTHING]]);
    const context = Buffer.concat([u32(set ? BASE_ALLOCATION_ID : 0), Buffer.from(BASE_ALLOCATION)]);
    if (set) this.contextExport = name;
    return this.reply(out, option, [
      [REP_META_CONTEXT, context],
      [REP_ACK, NOTHING],
    ]);
  }

  private parseQueries(at: number, length: number): { name: string; queries: string[] } | null {
    const { view } = this.memory;
    const end = at + length;
    if (length < 8) return null;
    const nameLength = view.getUint32(at);
    if (nameLength > NBD_NAME_BYTES_MAX || at + 8 + nameLength > end) return null;
    const name = this.text(at + 4, nameLength);
    const count = view.getUint32(at + 4 + nameLength);
    const queries: string[] = [];
    let next = at + 8 + nameLength;
    for (let index = 0; index < count; index += 1) {
      if (next + 4 > end) return null;
      const queryLength = view.getUint32(next);
      if (next + 4 + queryLength > end) return null;
      queries.push(this.text(next + 4, queryLength));
      next += 4 + queryLength;
    }
    return next === end ? { name, queries } : null;
  }
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function u32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, 4 * index);
  return bytes;
}

function optionReplyHeader(option: number, type: number, length: number): Buffer {
  return u32(OPTION_REPLY_MAGIC_HIGH, OPTION_REPLY_MAGIC_LOW, option, type, length);
}

function* listing(exports: readonly NbdExport[]): Generator<Reply> {
  for (const { name, description } of exports) {
    const nameBytes = Buffer.from(name);
    yield [REP_SERVER, Buffer.concat([u32(nameBytes.length), nameBytes, Buffer.from(description)])];
  }
  yield [REP_ACK, NOTHING];
}
