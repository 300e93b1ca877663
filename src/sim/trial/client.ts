/**
 * A client of a trial, which uses the volume in bursts: an NBD connection, which is made again whenever it has been lost, or a
 * program in the process.
 *
 * Everything that it asks and is answered goes into the history. What no answer came to may have happened or not.
 */

import { BLOCK_BYTES, SECTOR_BYTES } from '../../core/limits.js';
import {
  CMD_BLOCK_STATUS,
  CMD_FLAG_FUA,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  NBD_EIO,
} from '../../nbd/protocol.js';
import { NbdSession, type SessionRequest } from '../net/nbd-session.js';
import type { SimPeer } from '../net/peer.js';
import { RingSession, type SimRings } from '../net/ring-session.js';
import type { VolumeHistory } from '../oracle/history.js';
import type { SimHost } from '../world/host.js';
import type { SimRandom } from '../world/random.js';
import type { LoadPlan } from './plan.js';
import type { Server, TrialVolume } from './trial-volume.js';
import { SimViolation, type TrialWorld } from './trial-world.js';

const BLOCK_SECTORS = 8;
const ZEROES = new Uint8Array(BLOCK_BYTES);
/** Between attempts to connect. */
const RECONNECT_US = 50_000;
/** A connection that gets no answer for so long is given up. */
const PATIENCE_US = 120_000_000;

/** Of a hundred requests so many are flushes, and those that follow are reads. */
const FIRST_READ = 6;
/** Share of reads for which only the status of the blocks is asked. */
const STATUS = 1 / 16;
/** Share of trims that are of a whole segment. */
const WHOLE_SEGMENTS = 0.5;

/** What serves the clients of a volume, from its start to its death. */
export interface Program {
  /** Rings to a volume, for programs inside; null while it is not served. */
  ringsOf(volume: string): SimRings | null;
}

/** Which client of its node it is. */
export interface ClientPlace {
  readonly number: number;
  /** Number of its volume on the node. */
  readonly volume: number;
  /** Whether it is a program in the node's process. */
  readonly inside: boolean;
  /** Whether it only reads. */
  readonly reads?: boolean;
  /** Where its connections come from. */
  readonly host: SimHost;
}

const TYPES: Readonly<Record<number, string>> = {
  [CMD_READ]: 'read',
  [CMD_WRITE]: 'write',
  [CMD_FLUSH]: 'flush',
  [CMD_TRIM]: 'trim',
  [CMD_WRITE_ZEROES]: 'write-zeroes',
  [CMD_BLOCK_STATUS]: 'block status',
};

type Range = readonly [sector: number, count: number];

/** How a client reaches the volume. */
interface Session {
  readonly status: boolean;
  /** Sends a request. A write's payload is put by `fill` where it is told. */
  send(request: SessionRequest, flags: number, fill: (bytes: Uint8Array, at: number) => void): void;
  /** Ends it from this side. */
  finish(): void;
}

interface Asked extends SessionRequest {
  readonly slot: number;
  /** Of a status request: slots of reads, one for each block. What is said to be zeroes has been read as that. */
  readonly blocks: readonly number[];
  readonly beganUs: number;
  /** Number of the question in the trace. */
  origin: number;
  readonly session: Session;
}

function nameOf({ type, offset, length, slot }: Asked): string {
  const range = type === CMD_FLUSH ? '' : ` of sectors ${offset / SECTOR_BYTES} + ${length / SECTOR_BYTES}`;
  return `#${slot} ${TYPES[type]}${range}`;
}

export class SimClient {
  readonly host: SimHost;
  readonly inside: boolean;
  /** Requests answered. */
  answered = 0;
  peer: SimPeer | null = null;
  private readonly title: string;
  private readonly trial: TrialWorld<LoadPlan>;
  private readonly server: Server;
  private readonly volume: TrialVolume;
  private readonly place: ClientPlace;
  private readonly random: SimRandom;
  private session: Session | null = null;
  /** What serves it now; null while nothing does. */
  private program: Program | null = null;
  private stopped = false;
  /** Whether a look at how long the oldest request has waited is due at some time. */
  private watching = false;
  private left = 0;
  private running = 0;
  /** What is in flight, the oldest first. */
  private readonly open = new Set<Asked>();

  constructor(trial: TrialWorld<LoadPlan>, server: Server, volume: TrialVolume, place: ClientPlace, random: SimRandom) {
    this.trial = trial;
    this.server = server;
    this.volume = volume;
    this.place = place;
    this.host = place.host;
    this.inside = place.inside;
    this.title = `${place.inside ? 'program' : 'connection'} ${place.number}`;
    this.random = random;
  }

  get idle(): boolean {
    return this.running === 0;
  }

  /** What it has asked for and been waiting for the longest, for people; null if nothing is in flight. */
  get waitsFor(): string | null {
    const [oldest] = this.open;
    if (oldest === undefined) return null;
    return `${this.title}: ${nameOf(oldest)}, since ${Math.floor(oldest.beganUs / 1000)} ms`;
  }

  /** A process serves now. */
  attach(program: Program): void {
    this.program = program;
    this.stopped = false;
    this.connect();
  }

  /** The process has died. What was in flight has no answer. */
  detach(): void {
    this.program = null;
    this.watching = false;
    this.peer = null;
    const { session } = this;
    this.session = null;
    session?.finish();
    this.lose();
  }

  /** Asks for nothing more, until another process serves. */
  stop(): void {
    this.stopped = true;
    this.left = 0;
  }

  private connect(): void {
    const { program, trial } = this;
    if (program === null || this.stopped) return;
    if (this.inside) {
      this.join(program);
      return;
    }
    const peer = trial.network.connect(this.host, this.server.address);
    this.peer = peer;
    const session: NbdSession = new NbdSession(peer, this.volume.name, this.random.chance(0.5), (serving) => {
      if (this.session !== session || this.program !== program) return;
      if (serving) this.burst(session);
      else this.lost();
    });
    this.session = session;
  }

  /** A program begins once the volume is there. */
  private join(program: Program): void {
    const rings = program.ringsOf(this.volume.name);
    if (rings === null) {
      this.later(RECONNECT_US, () => this.connect());
      return;
    }
    this.session = new RingSession(rings, this.place.volume);
    this.burst(this.session);
  }

  /** Does something after a while, unless the process has died by then. */
  private later(delayUs: number, work: () => void): void {
    const { program } = this;
    this.trial.timers.after(delayUs, () => {
      if (this.program === program && program !== null) work();
    });
  }

  private lost(): void {
    this.trial.log(() => `${this.title} is lost`);
    this.session = null;
    this.peer = null;
    this.lose();
    this.later(RECONNECT_US, () => {
      if (this.session === null) this.connect();
    });
  }

  private lose(): void {
    const { history } = this.volume;
    // A process that has died ends all that was in flight at once; one that lives may still do it.
    if (this.program !== null) for (const asked of this.open) this.give(history, asked);
    this.open.clear();
    this.running = 0;
    this.left = 0;
  }

  private give(history: VolumeHistory, { slot, type, blocks }: Asked): void {
    const nowUs = this.trial.nowUs;
    if (type === CMD_BLOCK_STATUS) for (const block of blocks) history.failRead(block, nowUs);
    else if (type === CMD_READ) history.failRead(slot, nowUs);
    else history.end(slot, false, nowUs);
  }

  /** A burst of requests, then a pause. */
  private burst(session: Session): void {
    if (this.session !== session || this.stopped) return;
    const { burst, depth } = this.trial.plan;
    this.left = this.random.between(1, burst);
    for (let index = 0; index < depth && this.left > 0; index += 1) this.ask(session);
  }

  private ended(asked: Asked): void {
    const { session } = asked;
    if (this.session !== session) return;
    this.running -= 1;
    this.answered += 1;
    this.open.delete(asked);
    this.note(asked);
    if (this.left > 0) this.ask(session);
    else if (this.running === 0) {
      const us = this.random.below(2_000 * this.trial.plan.thinkMs);
      this.later(us, () => this.burst(session));
    }
  }

  private note(asked: Asked): void {
    const { slot, type, error, bytes, at } = asked;
    const { trial, volume } = this;
    const { history } = volume;
    this.traceAnswer(asked);
    if (error !== 0) {
      const text = `${this.title}: ${nameOf(asked)} was answered with error ${error}`;
      trial.log(() => text);
      if (error !== NBD_EIO || !this.server.mayFail) throw new SimViolation(text);
      this.give(history, asked);
    } else {
      const nowUs = this.trial.nowUs;
      trial.log(() => `${this.title}: ${nameOf(asked)} is done`);
      if (type === CMD_BLOCK_STATUS) this.noteStatus(asked, nowUs);
      else if (type === CMD_READ) history.endRead(slot, bytes ?? new Uint8Array(0), at, nowUs);
      else history.end(slot, true, nowUs);
    }
  }

  /** What a connection reads is in the trace when it arrives; a program's has come by memory. */
  private traceAnswer({ slot, type, error, bytes, at, length, origin }: Asked): void {
    const { time } = this.trial;
    time.trace.add('answer', time.nowUs, slot, error, origin);
    if (this.inside && type === CMD_READ && error === 0 && bytes !== null) time.traceBytes(bytes, at, length);
  }

  private noteStatus({ offset, blocks, zeroes }: Asked, nowUs: number): void {
    const { history } = this.volume;
    for (const [index, slot] of blocks.entries()) {
      const start = offset + index * BLOCK_BYTES;
      const isZero = zeroes?.some(([from, to]) => from <= start && to >= start + BLOCK_BYTES);
      if (isZero) history.endRead(slot, ZEROES, 0, nowUs);
      else history.failRead(slot, nowUs);
    }
  }

  private ask(session: Session): void {
    const { random, trial, volume, program } = this;
    if (program === null) return;
    const { history } = volume;
    const { nowUs } = trial;
    const dice = this.place.reads ? FIRST_READ : random.below(100);
    history.writer = this.server.writer;
    this.left -= 1;
    this.running += 1;
    if (dice < FIRST_READ) {
      this.send(session, CMD_FLUSH, [0, 0], history.beginFlush(nowUs), 0);
      return;
    }
    const type = dice < 40 ? CMD_READ : dice < 88 ? CMD_WRITE : dice < 94 ? CMD_TRIM : CMD_WRITE_ZEROES;
    const range = this.range(type);
    const [sector, count] = range;
    if (type === CMD_READ && session.status && random.chance(STATUS)) {
      const first = Math.floor(sector / BLOCK_SECTORS);
      const blocks = Array.from({ length: Math.ceil(count / BLOCK_SECTORS) }, (_, index) =>
        history.beginRead((first + index) * BLOCK_SECTORS, BLOCK_SECTORS, nowUs),
      );
      const whole = [first * BLOCK_SECTORS, blocks.length * BLOCK_SECTORS] as const;
      this.send(session, CMD_BLOCK_STATUS, whole, blocks[0], 0, blocks);
      return;
    }
    if (type === CMD_READ) {
      this.send(session, type, range, history.beginRead(sector, count, nowUs), 0);
      return;
    }
    const fua = random.below(10) === 0;
    const slot = this.beginChange(type, sector, count, fua, nowUs);
    this.send(session, type, range, slot, fua ? CMD_FLAG_FUA : 0);
  }

  private beginChange(type: number, sector: number, count: number, fua: boolean, nowUs: number): number {
    const { history } = this.volume;
    if (type === CMD_WRITE) return history.beginWrite(sector, count, fua, nowUs);
    return type === CMD_TRIM
      ? history.beginTrim(sector, count, fua, nowUs)
      : history.beginZero(sector, count, fua, nowUs);
  }

  private send(
    session: Session,
    type: number,
    [sector, count]: Range,
    slot: number,
    flags: number,
    blocks: readonly number[] = [],
  ): void {
    const asked: Asked = {
      type,
      offset: sector * SECTOR_BYTES,
      length: count * SECTOR_BYTES,
      bytes: null,
      at: 0,
      error: 0,
      slot,
      blocks,
      beganUs: this.trial.nowUs,
      origin: 0,
      session,
      ended: (request) => this.ended(request as Asked),
    };
    this.open.add(asked);
    this.traceQuestion(asked, flags);
    this.trial.log(() => `${this.title}: ${nameOf(asked)}${flags === 0 ? '' : ' with FUA'}`);
    session.send(asked, flags, (message, at) => this.volume.history.fill(slot, message, at));
    if (!this.watching) this.watch(PATIENCE_US);
  }

  private traceQuestion(asked: Asked, flags: number): void {
    const { time } = this.trial;
    asked.origin = time.trace.add('ask', time.nowUs, asked.slot, asked.offset, asked.length);
    time.trace.note(asked.type);
    time.trace.note(flags);
  }

  /** Looks at the oldest request after a while, and gives its connection up if it has waited for too long. */
  private watch(delayUs: number): void {
    this.watching = true;
    this.later(delayUs, () => {
      this.watching = false;
      const [oldest] = this.open;
      if (oldest === undefined) return;
      const leftUs = PATIENCE_US - this.trial.nowUs + oldest.beganUs;
      if (leftUs > 0) this.watch(leftUs);
      else if (!this.inside) oldest.session.finish();
      else throw new SimViolation(`${this.title}: ${nameOf(oldest)} is not answered`);
    });
  }

  /**
   * Mostly a block, sometimes a few or many, half of them in a few segments that are used again and again. Many trims are of
   * whole segments, so that slots come and go.
   */
  private range(type: number): Range {
    const { random, trial, volume } = this;
    const { plan } = trial;
    const hot = (plan.hotSegments * plan.segmentBytes) / SECTOR_BYTES;
    const area = random.chance(0.5) ? hot : volume.sectors;
    const shape = random.below(16);
    if (type === CMD_TRIM && random.chance(WHOLE_SEGMENTS)) {
      const sectors = plan.segmentBytes / SECTOR_BYTES;
      return [random.below(area / sectors) * sectors, sectors];
    }
    if (random.chance(plan.ragged)) {
      const count = random.between(1, 24);
      return [random.below(area - count), count];
    }
    const blocks = area / BLOCK_SECTORS;
    const most = type === CMD_WRITE || type === CMD_READ ? 32 : 64;
    const count = Math.min(blocks, shape < 12 ? 1 : shape < 15 ? random.between(2, 4) : random.between(1, most));
    return [random.below(blocks - count + 1) * BLOCK_SECTORS, count * BLOCK_SECTORS];
  }
}
