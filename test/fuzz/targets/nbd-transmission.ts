/**
 * NBD requests: any stream of bytes after a handshake, in any pieces.
 *
 * The first byte of an input chooses the handshake, the second how the client goes on when it has sent everything, the rest is
 * what it sends. A plain reading of that says which requests the server has seen: each is answered once, reads with what was
 * asked for, nothing else comes. An honest client is served meanwhile and afterwards.
 */

import type { SimRandom } from '#strake/sim/world/random.js';
import { CMD, contextData, header, infoData, OPT, option, u32 } from '../../support/nbd-client.js';
import { interesting, putNumber } from '../mutate.js';
import { type Client, contentOf, EXPORT, EXPORT_BYTES, GREETING, NbdWorld } from '../nbd-world.js';
import { demand, type FuzzTarget } from '../target.js';

const HEADER = 28;
const MAGIC = 0x25609513;
const MODES = 3;
const CHUNK_HEADER = 20;
const DATA_CHUNK = 1;
const BYTES_MAX = 300_000;

const structured = option(OPT.structuredReply);
const context = option(OPT.setMetaContext, contextData(EXPORT, ['base:allocation']));
const go = option(OPT.go, infoData(EXPORT));
const ways = [[go], [structured, go], [structured, context, go]];

/** A request as it was sent. */
interface Sent {
  readonly type: number;
  readonly offset: number;
  readonly length: number;
  /** Answers that came, or the last of its chunks. */
  answers: number;
}

/** What a stream of requests means. */
interface Meaning {
  readonly requests: ReadonlyMap<string, Sent>;
  /** No two of them can be mistaken for each other. */
  readonly distinct: boolean;
  /** The export is as it was. */
  readonly unchanged: boolean;
  /** The connection stays open: the stream ends between requests, or within one. */
  readonly open: boolean;
}

function meaningOf(stream: Buffer): Meaning {
  const requests = new Map<string, Sent>();
  let distinct = true;
  let unchanged = true;
  let at = 0;
  let open = true;
  while (open && at + HEADER <= stream.length) {
    const type = stream.readUInt16BE(at + 6);
    open = stream.readUInt32BE(at) === MAGIC && type !== CMD.disconnect;
    if (!open) break;
    const cookie = stream.toString('hex', at + 8, at + 16);
    const offset = Number(stream.readBigUInt64BE(at + 16));
    const length = stream.readUInt32BE(at + 24);
    at += HEADER + (type === CMD.write ? length : 0);
    unchanged &&= ![CMD.write, CMD.trim, CMD.writeZeroes].includes(type as never);
    distinct &&= !requests.has(cookie);
    requests.set(cookie, { type, offset, length, answers: 0 });
  }
  return { requests, distinct, unchanged, open };
}

/** Reads what the server has sent in answer to the requests. What is not whole is left. */
class Answers {
  private readonly meaning: Meaning;
  private readonly bytes: Buffer;
  private at = 0;

  constructor(meaning: Meaning, bytes: Buffer) {
    this.meaning = meaning;
    this.bytes = bytes;
  }

  check(): void {
    while (this.bytes.length - this.at >= 16 && this.next());
  }

  private request(): Sent {
    const cookie = this.bytes.toString('hex', this.at + 8, this.at + 16);
    const sent = this.meaning.requests.get(cookie);
    if (sent === undefined) throw new Error(`an answer to ${cookie}, which nobody asked`);
    return sent;
  }

  /** Takes one reply or chunk. False if it has not come whole. */
  private next(): boolean {
    const magic = this.bytes.readUInt32BE(this.at);
    const sent = this.request();
    if (magic === 0x67446698) return this.simple(sent);
    demand(magic === 0x668e33ef, `an answer begins with ${magic.toString(16)}`);
    return this.chunk(sent);
  }

  private simple(sent: Sent): boolean {
    const error = this.bytes.readUInt32BE(this.at + 4);
    const payload = error === 0 && sent.type === CMD.read ? sent.length : 0;
    if (this.bytes.length - this.at < 16 + payload) return false;
    if (payload > 0) this.data(sent, sent.offset, this.bytes.subarray(this.at + 16, this.at + 16 + payload));
    this.at += 16 + payload;
    sent.answers += 1;
    return true;
  }

  private chunk(sent: Sent): boolean {
    if (this.bytes.length - this.at < CHUNK_HEADER) return false;
    const flags = this.bytes.readUInt16BE(this.at + 4);
    const type = this.bytes.readUInt16BE(this.at + 6);
    const length = this.bytes.readUInt32BE(this.at + 16);
    const body = this.bytes.subarray(this.at + CHUNK_HEADER, this.at + CHUNK_HEADER + length);
    demand(length <= sent.length + 8 || type !== DATA_CHUNK, `a chunk of ${length} bytes for ${sent.length}`);
    if (body.length < length) return false;
    if (type === DATA_CHUNK) this.data(sent, Number(body.readBigUInt64BE(0)), body.subarray(8));
    this.at += CHUNK_HEADER + length;
    sent.answers += flags & 1;
    return true;
  }

  private data(sent: Sent, offset: number, bytes: Buffer): void {
    const within = offset >= sent.offset && offset + bytes.length <= sent.offset + sent.length;
    demand(within && sent.type === CMD.read, `data of ${offset} in answer to a request of ${sent.offset}`);
    if (this.meaning.unchanged) demand(contentOf(offset, bytes.length).equals(bytes), `wrong data at ${offset}`);
  }
}

/** Takes the handshake's replies. */
function shakeHands(client: Client, mode: number): void {
  client.peer.send(Buffer.concat([u32(3), ...ways[mode]]));
  client.take(GREETING.length);
  for (let option = 0, type = 0; option !== OPT.go || type !== 1; ) {
    const reply = client.take(20);
    option = reply.readUInt32BE(8);
    type = reply.readUInt32BE(12);
    client.take(reply.readUInt32BE(16));
  }
}

function requestOf(random: SimRandom, cookie: number): Buffer {
  const type = random.pick([
    CMD.read,
    CMD.read,
    CMD.write,
    CMD.write,
    CMD.flush,
    CMD.trim,
    CMD.cache,
    CMD.writeZeroes,
    7,
  ]);
  const large = random.chance(0.03);
  const length = type === CMD.flush ? 0 : 1 + random.below(large ? 3 << 20 : random.pick([16, 600, 9000]));
  const offset = type === CMD.flush ? 0 : random.below(EXPORT_BYTES - length);
  const flags = random.chance(0.2) ? 1 << random.below(6) : 0;
  const bytes = header({ type, flags, offset, length }, BigInt(cookie));
  if (random.chance(0.15)) {
    const [at, width] = random.pick([
      [4, 2],
      [6, 2],
      [16, 8],
      [20, 4],
      [24, 4],
      [random.below(HEADER), 1],
    ]);
    putNumber(bytes, at, width, random.chance(0.5) ? interesting(random) : EXPORT_BYTES - random.below(3), false);
  }
  if (bytes.readUInt16BE(6) !== CMD.write) return bytes;
  // Mostly as much as was promised.
  const promised = Math.min(bytes.readUInt32BE(24), 64 << 10);
  return Buffer.concat([bytes, Buffer.alloc(random.chance(0.95) ? promised : random.below(promised + 1), cookie)]);
}

function generate(random: SimRandom): Uint8Array {
  const requests = 1 + random.below(random.chance(0.1) ? 200 : 12);
  const list = Array.from({ length: requests }, (_, index) => requestOf(random, index + 1));
  const input = Buffer.concat([Uint8Array.of(random.below(MODES), random.below(4)), ...list]);
  return input.subarray(0, BYTES_MAX);
}

const plain = [
  header({ type: CMD.read, offset: 4096, length: 4096 }, 1n),
  header({ type: CMD.write, offset: 100, length: 700 }, 2n),
  Buffer.alloc(700, 'p'),
  header({ type: CMD.flush }, 3n),
  header({ type: CMD.blockStatus, offset: 0, length: 1 << 20 }, 4n),
  header({ type: CMD.trim, offset: 8192, length: 8192 }, 5n),
  header({ type: CMD.writeZeroes, flags: 2, offset: 1, length: 5000 }, 6n),
  header({ type: CMD.cache, offset: 0, length: 512 }, 7n),
  header({ type: CMD.disconnect }, 8n),
];

function judge(client: Client, meaning: Meaning): void {
  if (!meaning.distinct) return;
  new Answers(meaning, client.received).check();
  for (const [cookie, { answers, type }] of meaning.requests) {
    demand(answers <= 1, `request ${cookie} of type ${type} was answered ${answers} times`);
  }
  if (!meaning.open || client.ended) return;
  // The last may be a write whose payload is not there.
  const unanswered = [...meaning.requests.values()].filter(({ answers }) => answers === 0);
  const last = [...meaning.requests.values()].at(-1);
  const fine = unanswered.every((sent) => sent === last && sent.type === CMD.write);
  demand(fine, `${unanswered.length} of ${meaning.requests.size} requests have no answer`);
}

export const nbdTransmission: FuzzTarget = {
  name: 'nbd-transmission',
  covers: ['nbd', 'client'],
  bytesMax: BYTES_MAX,
  corpus: () => [0, 1, 2].map((mode) => Buffer.concat([Uint8Array.of(mode, mode), ...plain])),
  generate,
  run: (bytes, random) => {
    const world = new NbdWorld(random);
    const client = world.connect();
    const stream = Buffer.from(bytes.subarray(2));
    shakeHands(client, (bytes[0] ?? 0) % MODES);
    const how = (bytes[1] ?? 0) % 4;
    if (how === 3) client.peer.paused = true;
    world.sendCut(client, stream);
    if (random.chance(0.5)) world.serveHonestly();
    client.peer.paused = false;
    if (how === 1) client.peer.reset();
    if (how === 2) client.peer.finish();
    world.quiet();
    const meaning = meaningOf(stream);
    if (how === 0 || how === 3) judge(client, meaning);
    world.serveHonestly();
    world.judge();
  },
};
