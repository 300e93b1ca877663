/**
 * An NBD service on simulated ports, with an honest client beside whoever is hostile: everything on one thread and by one seed,
 * so the clients are plain code that lets the loop run until there is what they wait for.
 */

import { BLOCK_BYTES, EXPORT_TEXT_BYTES_MAX } from '#strake/core/limits.js';
import { alignUp } from '#strake/core/units.js';
import { Watch } from '#strake/core/watch.js';
import { NbdExport } from '#strake/nbd/export.js';
import { NbdServer } from '#strake/nbd/server.js';
import { NbdService } from '#strake/nbd/service.js';
import { ConnectionResources } from '#strake/net/connection-resources.js';
import { RAW_VOLUME_SCRATCH_BYTES, RawVolume } from '#strake/raw/raw-volume.js';
import { SimDevice } from '#strake/sim/disk/device.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import type { SimPeer } from '#strake/sim/net/peer.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import type { SimRandom } from '#strake/sim/world/random.js';
import { CMD, header, infoData, OPT, option, REP, u32 } from '../support/nbd-client.js';
import { demand } from './target.js';

export const EXPORT = 'main';
export const EXPORT_BYTES = 4 << 20;
/** What the honest client uses. No input of the corpus knows this name. */
const HONEST_EXPORT = 'q7-honest';
const HONEST_BYTES = 64 << 10;
/** Fills what belongs to the honest client. */
const MARK = Buffer.from('HONESTLY');
export const GREETING = Buffer.from('4e42444d4147494349484156454f50540003', 'hex');
/** Virtual time in which whatever is to happen happens; longer than the limit of a handshake. */
const QUIET_MS = 40_000;
/** Longer than it takes to send a lost segment again, several times. */
const QUIET_US = 2_500_000;
const RECEIVED_MAX = 256 << 20;

const scratchStart = alignUp(ConnectionResources.regionBytes(), BLOCK_BYTES);
const arena = new Uint8Array(new SharedArrayBuffer(scratchStart + 2 * RAW_VOLUME_SCRATCH_BYTES));

/** Each 8 bytes of the export say where they are. */
export function contentOf(offset: number, length: number): Buffer {
  const first = offset - (offset % 8);
  const last = alignUp(offset + length, 8);
  const bytes = Buffer.alloc(last - first);
  for (let at = 0; at < bytes.length; at += 8) {
    bytes.writeUInt32BE(0x5ca1ab1e, at);
    bytes.writeUInt32BE((first + at) / 8, at + 4);
  }
  return bytes.subarray(offset - first, offset - first + length);
}

function filledDisk(content: Buffer): SimDisk {
  const disk = new SimDisk({ sizeBytes: content.length });
  disk.poke(0, content);
  return disk;
}

const disks = [filledDisk(contentOf(0, EXPORT_BYTES)), filledDisk(Buffer.alloc(HONEST_BYTES, MARK))];

/** A client: what it has received, and whether it is over. */
export class Client {
  readonly peer: SimPeer;
  ended = false;
  receivedBytes = 0;
  private readonly loop: SimLoop;
  private parts: Uint8Array[] = [];

  constructor(loop: SimLoop, peer: SimPeer) {
    this.loop = loop;
    this.peer = peer;
    peer.onData = (bytes) => {
      this.receivedBytes += bytes.length;
      demand(this.receivedBytes < RECEIVED_MAX, 'the server sends without end');
      this.parts.push(bytes.slice());
    };
    peer.onEnd = () => {
      this.ended = true;
    };
  }

  /** All that has been received and not been taken. */
  get received(): Buffer {
    const all = Buffer.concat(this.parts);
    this.parts = all.length > 0 ? [all] : [];
    return all;
  }

  /** Takes exactly so many bytes; throws if they do not come. */
  take(bytes: number): Buffer {
    const { received } = this;
    const target = this.receivedBytes + bytes - received.length;
    this.loop.runSync(() => this.receivedBytes >= target || this.ended, { virtualMs: QUIET_MS });
    const all = this.received;
    demand(all.length >= bytes, `the connection ended after ${all.length} of ${bytes} bytes`);
    this.parts = [all.subarray(bytes)];
    return all.subarray(0, bytes);
  }
}

export class NbdWorld {
  readonly loop: SimLoop;
  readonly service: NbdService;
  private readonly transport: SimTransport;
  private readonly random: SimRandom;
  private readonly listener: number;
  private readonly clients: Client[] = [];

  constructor(random: SimRandom) {
    this.random = random;
    const loop = new SimLoop({ seed: random.next(), arena });
    const transport = new SimTransport(loop, {
      loss: random.pick([0, 0, 0.05]),
      windowBytes: random.pick([4096, 1 << 18]),
    });
    const watch = new Watch(loop, loop);
    const ports = { completions: loop, memory: loop, transport, clock: loop };
    this.loop = loop;
    this.transport = transport;
    this.service = new NbdService(ports, watch, 0);
    const exports = disks.map((disk, index) => {
      const device = new SimDevice(loop, disk.clone());
      const volume = new RawVolume(
        loop,
        loop,
        device,
        scratchStart + index * RAW_VOLUME_SCRATCH_BYTES,
        false,
        () => {},
      );
      return new NbdExport([EXPORT, HONEST_EXPORT][index], 'fuzzed', volume, false);
    });
    // With these, a listing is longer than what is sent at a time.
    for (const index of [0, 1, 2, 3]) {
      exports.push(new NbdExport(`long${index}`, 'd'.repeat(EXPORT_TEXT_BYTES_MAX), exports[0].volume, false));
    }
    this.listener = transport.listen();
    new NbdServer(this.service, ports, this.listener, exports);
  }

  connect(): Client {
    const client = new Client(this.loop, this.transport.peer(this.listener));
    this.clients.push(client);
    return client;
  }

  /** Lets some batches pass. */
  work(batches: number): void {
    for (let left = batches; left > 0 && this.loop.step(); left -= 1);
  }

  /** Lets the loop run until nobody has received anything for long, or nobody is there. */
  quiet(): void {
    const total = () => this.clients.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
    for (let before = -1; before !== total() && this.service.busy; ) {
      before = total();
      const until = this.loop.nowUs + QUIET_US;
      this.loop.runSync(() => this.loop.nowUs > until || !this.service.busy, { virtualMs: QUIET_MS });
    }
  }

  /** Sends bytes, cut anywhere, with time between the pieces. */
  sendCut(client: Client, bytes: Uint8Array): void {
    const { random } = this;
    const cuts = random.chance(0.5) ? random.below(4) : random.below(40);
    const places = Array.from({ length: cuts }, () => random.below(bytes.length + 1)).sort((one, two) => one - two);
    let at = 0;
    for (const place of [...places, bytes.length]) {
      if (place > at) client.peer.send(bytes.subarray(at, place));
      at = place;
      if (random.chance(0.7)) this.work(random.below(12));
    }
  }

  /** An honest client comes, writes, reads, and goes. */
  serveHonestly(): void {
    const client = this.connect();
    demand(client.take(GREETING.length).equals(GREETING), 'the greeting is not one');
    client.peer.send(Buffer.concat([u32(3), option(OPT.go, infoData(HONEST_EXPORT))]));
    for (let type = 0; type !== REP.ack; ) {
      const reply = client.take(20);
      type = reply.readUInt32BE(12);
      demand(type === REP.ack || type === REP.info, `an honest GO is answered with ${type.toString(16)}`);
      client.take(reply.readUInt32BE(16));
    }
    const offset = this.random.below(HONEST_BYTES / 512 - 16) * 512 + this.random.pick([0, 0, 3 * MARK.length]);
    const length = 4096;
    const payload = Buffer.alloc(length, MARK);
    client.peer.send(Buffer.concat([header({ type: CMD.write, offset, length }, 1n), payload]));
    this.demandReply(client, 1);
    client.peer.send(header({ type: CMD.read, offset, length }, 2n));
    this.demandReply(client, 2);
    demand(client.take(length).equals(payload), 'an honest client reads what is not its own');
    client.peer.send(header({ type: CMD.disconnect }, 3n));
    this.loop.runSync(() => client.ended, { virtualMs: QUIET_MS });
  }

  private demandReply(client: Client, cookie: number): void {
    const reply = client.take(16);
    const fine =
      reply.readUInt32BE(0) === 0x67446698 && reply.readUInt32BE(4) === 0 && reply.readUInt32BE(12) === cookie;
    demand(fine, `an honest request is answered with ${reply.toString('hex')}`);
  }

  /** Everybody goes, and nothing is left. What they received is nobody else's. */
  judge(): void {
    for (const client of this.clients) {
      if (!client.ended) client.peer.reset();
      demand(!client.received.includes(MARK), 'a client received bytes of another');
    }
    this.loop.runSync(() => !this.service.busy, { virtualMs: QUIET_MS });
    const { connections, handshakes, buffersInUse, buffersQuarantined, requestsInFlight, bulkBuffersInUse } =
      this.service.stats();
    const left = { connections, handshakes, buffersInUse, buffersQuarantined, requestsInFlight, bulkBuffersInUse };
    demand(
      Object.values(left).every((count) => count === 0),
      `left behind: ${JSON.stringify(left)}`,
    );
  }
}
