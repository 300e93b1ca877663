/**
 * The process of an evil disk (`evil-disk.ts`): the simulator's disk and its faults, served over NBD in real time.
 *
 * Its argument says where to listen and what disk to be. Commands come on its standard input, `{id, method, args}` a line, and
 * are answered on its standard output; it ends with its input. One client at a time; requests end in any order.
 */

import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import * as nbd from '#strake/nbd/protocol.js';
import { maskAtRandom } from '#strake/sim/disk/device.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { SimRandom } from '#strake/sim/world/random.js';

const { socket: socketPath, sizeBytes, seed } = JSON.parse(process.argv[2]);
const EIO = nbd.NBD_EIO;
const OPERATIONS = new Map([
  [nbd.CMD_READ, 'read'],
  [nbd.CMD_WRITE, 'write'],
  [nbd.CMD_FLUSH, 'sync'],
  [nbd.CMD_TRIM, 'discard'],
  [nbd.CMD_WRITE_ZEROES, 'zero'],
]);
const FEATURES = nbd.TX_HAS_FLAGS | nbd.TX_SEND_FLUSH | nbd.TX_SEND_TRIM | nbd.TX_SEND_WRITE_ZEROES;
/** How often a sector is at risk when bits rot, and pages to look at for one that holds something. */
const LOOKS_MAX = 1000;

const disk = new SimDisk({ sizeBytes });
const random = new SimRandom(seed);
/** Operations that never end, until they are released. */
let stuck = [];
let inFlight = 0;
let whenIdle = () => {};

// ---------------------------------------------------------------- operations

/** Carries out one request; `reply(errno, data)` ends it. */
function handle({ kind, offset, length, data }, reply) {
  if (disk.vanished) return reply(EIO);
  const action = disk.faults.decide(kind, offset, length, random);
  if (action?.kind === 'vanish') disk.vanished = true;
  const write = begin({ kind, offset, length, data, action });
  const mark = kind === 'sync' ? disk.mark() : 0;
  inFlight += 1;
  const finish = () => {
    inFlight -= 1;
    end({ kind, offset, length, action, write, mark }, reply);
    if (inFlight === 0) whenIdle();
  };
  if (action?.kind === 'stick') stuck.push(finish);
  else if (action?.kind === 'slow') setTimeout(finish, action.byUs / 1000);
  else setImmediate(finish);
}

function begin({ kind, offset, length, data, action }) {
  if (kind === 'read' || kind === 'sync' || action?.kind === 'lose') return null;
  if (action?.kind === 'corrupt' && data !== null) data[random.below(length)] ^= 1 << random.below(8);
  const at = action?.kind === 'misdirect' && kind !== 'discard' ? action.toOffsetBytes : offset;
  const write = { offset: at, length, data, allocated: false, mask: null, durable: false, seen: false };
  disk.begin(write);
  return write;
}

function end({ kind, offset, length, action, write, mark }, reply) {
  const errno = disk.vanished ? EIO : action?.kind === 'error' ? action.errno : 0;
  if (write !== null) {
    // A failed modification may have changed any sectors; what a read has seen of it stays.
    if (errno !== 0 && !write.seen) maskAtRandom(write, random);
    disk.finish(write, false);
  }
  if (errno !== 0) return reply(errno);
  if (kind === 'sync' && action?.kind !== 'lie') disk.promote(mark);
  if (kind !== 'read') return reply(0);
  const content = Buffer.alloc(length);
  disk.read(offset, length, content, 0, random);
  if (action?.kind === 'corrupt') content[random.below(length)] ^= 1 << random.below(8);
  reply(0, content);
}

// ---------------------------------------------------------------- the protocol

/** Hands out exact numbers of bytes of a stream. */
async function* pieces(stream) {
  let have = Buffer.alloc(0);
  let wanted = yield;
  for await (const chunk of stream) {
    have = have.length === 0 ? chunk : Buffer.concat([have, chunk]);
    while (have.length >= wanted) {
      const piece = have.subarray(0, wanted);
      have = have.subarray(wanted);
      wanted = yield piece;
    }
  }
}

function optionReply(option, type, data = Buffer.alloc(0)) {
  const head = Buffer.alloc(nbd.OPTION_REPLY_HEADER_BYTES);
  head.writeUInt32BE(nbd.OPTION_REPLY_MAGIC_HIGH, 0);
  head.writeUInt32BE(nbd.OPTION_REPLY_MAGIC_LOW, 4);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(type, 12);
  head.writeUInt32BE(data.length, 16);
  return Buffer.concat([head, data]);
}

/** Shakes hands; what it does not know it refuses. Whether the client goes on to requests. */
async function shakeHands(connection, take) {
  const greeting = Buffer.alloc(18);
  const magic = [nbd.NBD_MAGIC_HIGH, nbd.NBD_MAGIC_LOW, nbd.OPTION_MAGIC_HIGH, nbd.OPTION_MAGIC_LOW];
  magic.forEach((word, index) => {
    greeting.writeUInt32BE(word, 4 * index);
  });
  greeting.writeUInt16BE(nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES, 16);
  connection.write(greeting);
  await take(4);
  for (;;) {
    const head = await take(nbd.OPTION_HEADER_BYTES);
    const option = head.readUInt32BE(8);
    const length = head.readUInt32BE(12);
    if (length > 0) await take(length);
    if (option === nbd.OPT_ABORT) return false;
    if (option !== nbd.OPT_GO && option !== nbd.OPT_INFO) {
      connection.write(optionReply(option, nbd.REP_ERR_UNSUP));
      continue;
    }
    const info = Buffer.alloc(12);
    info.writeUInt16BE(nbd.INFO_EXPORT, 0);
    info.writeBigUInt64BE(BigInt(sizeBytes), 2);
    info.writeUInt16BE(FEATURES, 10);
    connection.write(Buffer.concat([optionReply(option, nbd.REP_INFO, info), optionReply(option, nbd.REP_ACK)]));
    if (option === nbd.OPT_GO) return true;
  }
}

async function serve(connection) {
  const stream = pieces(connection);
  await stream.next();
  const take = async (length) => {
    const { value, done } = await stream.next(length);
    if (done) throw new Error('the client has gone');
    return value;
  };
  if (!(await shakeHands(connection, take))) return;
  for (;;) {
    const head = await take(nbd.REQUEST_HEADER_BYTES);
    const cookie = Buffer.from(head.subarray(8, 16));
    const type = head.readUInt16BE(6);
    if (type === nbd.CMD_DISC) return;
    const length = head.readUInt32BE(24);
    const data = type === nbd.CMD_WRITE ? new Uint8Array(await take(length)) : null;
    handle({ kind: OPERATIONS.get(type), offset: Number(head.readBigUInt64BE(16)), length, data }, (errno, content) => {
      const answer = Buffer.alloc(nbd.SIMPLE_REPLY_BYTES);
      answer.writeUInt32BE(nbd.SIMPLE_REPLY_MAGIC, 0);
      answer.writeUInt32BE(errno, 4);
      cookie.copy(answer, 8);
      connection.write(content === undefined ? answer : Buffer.concat([answer, content]));
    });
  }
}

// ---------------------------------------------------------------- commands

function release() {
  const held = stuck;
  stuck = [];
  for (const finish of held) finish();
  return held.length;
}

async function idle() {
  release();
  if (inFlight > 0) {
    await new Promise((resolve) => {
      whenIdle = resolve;
    });
  }
}

const methods = {
  /** These are the rules from now on. */
  faults(rules) {
    disk.faults.clear();
    for (const rule of rules) disk.faults.add(rule);
    return release();
  },
  /** From now on everything fails. */
  vanish() {
    disk.vanished = true;
    return release();
  },
  /** It is there again, as if a cable had been out. */
  async reappear() {
    await idle();
    disk.vanished = false;
  },
  /** The power comes back: of what was not flushed, any sectors have survived. */
  async restart() {
    await idle();
    disk.vanished = false;
    disk.faults.clear();
    return disk.powerCut(random);
  },
  /** Flips bits at rest between two offsets, in pages that have been written. Returns where. */
  rot(start, end, count) {
    const places = [];
    for (let look = 0; look < LOOKS_MAX && places.length < count; look += 1) {
      const at = start + random.below(end - start);
      if (!disk.allocated(at)) continue;
      disk.flipBit(at, random.below(8));
      places.push(at);
    }
    return places;
  },
  /** Operations on which a rule has acted. */
  acted: () => disk.faults.acted,
  /** What can be read, as a file. */
  keep: (path) => writeFileSync(path, disk.peek(0, sizeBytes)),
};

const server = createServer((connection) => {
  connection.on('error', () => {});
  serve(connection).then(
    () => connection.end(),
    () => connection.destroy(),
  );
});
server.listen(socketPath, () => process.stdout.write('{"id":0}\n'));
const lines = createInterface({ input: process.stdin });
lines.on('line', async (line) => {
  const { id, method, args } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify({ id, result: (await methods[method](...args)) ?? null })}\n`);
});
lines.on('close', () => process.exit());
