/**
 * The asking end of the rings by which requests reach volumes whose engines are on another shard.
 *
 * Payloads stay where they are; one that is to be copied first is copied at once, as the other side takes a request as soon as it
 * is shown. When the other shard has died, what is in flight is given up, and so is everything that is asked later: ECANCELED.
 */

import { check } from '../core/check.js';
import { ECANCELED } from '../core/errno.js';
import { Notify } from '../core/notify.js';
import { COMPLETION_ABANDONED } from '../ports/completion.js';
import type { Memory } from '../ports/memory.js';
import { RingConsumer } from '../ring/spsc-ring.js';
import { type AskingParts, AskingRing } from './asking-ring.js';
import { VOLUME_CALLS_MAX } from './limits.js';
import { VOLUME_BACK, VOLUME_DONE, VOLUME_READ, VOLUME_WRITE, type VolumeLink } from './volume-protocol.js';

/** What the requests to one engine have in common. */
export class EngineTraffic {
  /** Number of the engine there. */
  readonly engine: number;
  private outstanding = 0;
  private readonly idled = new Notify();

  constructor(engine: number) {
    this.engine = engine;
  }

  begin(): void {
    this.outstanding += 1;
  }

  end(): void {
    this.outstanding -= 1;
    check(this.outstanding >= 0, 'more has ended than a volume on another shard was asked for', this.engine);
    if (this.outstanding === 0) this.idled.tell();
  }

  /** Resolves when nothing is in flight. */
  async idle(): Promise<void> {
    while (this.outstanding > 0) await this.idled.next();
  }
}

/** Where a request works: one record of each volume, filled in anew for each request, which is put into the ring at once. */
export class AskedRange {
  /** Where the payload begins, of what has one. */
  memory = 0;
  offsetBytes = 0;
  spanBytes = 0;
  /** Those of the operation; of extents the bytes that there is room for. */
  flags = 0;

  set(memory: number, offsetBytes: number, spanBytes: number, flags: number): this {
    this.memory = memory;
    this.offsetBytes = offsetBytes;
    this.spanBytes = spanBytes;
    this.flags = flags;
    return this;
  }
}

export interface VolumeAskerParts extends AskingParts {
  readonly memory: Memory;
  readonly link: VolumeLink;
}

export class VolumeAsker {
  private readonly parts: VolumeAskerParts;
  private readonly requests: AskingRing;
  private readonly replies: RingConsumer;
  private readonly freeTags: number[] = [];
  /** By tag: what is in flight. */
  private readonly traffics: (EngineTraffic | null)[] = new Array(VOLUME_CALLS_MAX).fill(null);
  private readonly tokens = new Int32Array(VOLUME_CALLS_MAX);
  /** Where its payload lies; -1 if it has none. */
  private readonly memories = new Int32Array(VOLUME_CALLS_MAX);
  /** Of a shard that has died: whether its device operations may go on. */
  private mayGoOn = false;

  constructor(parts: VolumeAskerParts) {
    this.parts = parts;
    this.requests = new AskingRing(parts, parts.link.requests, () => this.endAll());
    this.replies = new RingConsumer(parts.link.replies);
    for (let tag = VOLUME_CALLS_MAX - 1; tag >= 0; tag -= 1) this.freeTags.push(tag);
    this.drain();
  }

  /** Whether the other shard has died. */
  get lost(): boolean {
    return this.requests.lost;
  }

  /** Copies a payload to where it is asked for from. */
  bring(memory: number, source: number, lengthBytes: number): void {
    this.parts.memory.bytes.copyWithin(memory, source, source + lengthBytes);
  }

  /** Asks an engine for something. `what`: `VOLUME_*`. */
  ask(traffic: EngineTraffic, what: number, at: AskedRange, token: number): void {
    if (this.lost) {
      this.parts.completions.defer(token, -ECANCELED);
      return;
    }
    const tag = this.freeTags.pop();
    check(tag !== undefined, 'more is asked of volumes on another shard than can be', VOLUME_CALLS_MAX);
    const { memory } = at;
    traffic.begin();
    this.traffics[tag] = traffic;
    this.tokens[tag] = token;
    this.memories[tag] = what === VOLUME_READ || what === VOLUME_WRITE ? memory : -1;
    const word = this.requests.entry(what);
    const { words, floats } = this.requests;
    words[word + 1] = tag;
    words[word + 2] = traffic.engine;
    words[word + 3] = memory;
    floats[(word >> 1) + 2] = at.offsetBytes;
    floats[(word >> 1) + 3] = at.spanBytes;
    words[word + 8] = at.flags;
  }

  /** Takes what the other shard has answered. Called when it has woken this one. */
  drain(): void {
    if (this.lost) return;
    const { replies } = this;
    do {
      for (let word = replies.next(); word >= 0; word = replies.next()) this.take(word);
      replies.release();
    } while (!replies.sleep());
  }

  private take(word: number): void {
    const { words } = this.replies;
    if (words[word] === VOLUME_BACK) this.parts.memory.takeBack(words[word + 4]);
    else {
      check(words[word] === VOLUME_DONE, 'the ring from another shard holds what nobody answers', words[word]);
      this.end(words[word + 1], words[word + 2], words[word + 3]);
    }
  }

  private end(tag: number, result: number, flags: number): void {
    const traffic = this.traffics[tag];
    check(traffic !== null, 'a request to a volume on another shard is answered that was not asked', tag);
    const token = this.tokens[tag];
    const memory = this.memories[tag];
    this.traffics[tag] = null;
    this.freeTags.push(tag);
    if ((flags & COMPLETION_ABANDONED) !== 0 && memory >= 0) this.parts.memory.lend(memory);
    traffic.end();
    this.parts.completions.finish(token, result, flags);
  }

  /**
   * The other shard has died: nothing comes back any more. `mayGoOn`: device operations may still use memory of this one, for
   * ever; otherwise they have ended.
   */
  lose(mayGoOn: boolean): void {
    if (this.lost) return;
    this.mayGoOn = mayGoOn;
    this.requests.lose();
  }

  private endAll(): void {
    const flags = this.mayGoOn ? COMPLETION_ABANDONED : 0;
    for (const [tag, traffic] of this.traffics.entries()) {
      if (traffic !== null) this.end(tag, -ECANCELED, this.memories[tag] >= 0 ? flags : 0);
    }
  }

  /** Gives up the handler; nothing may be in flight. */
  dispose(): void {
    check(this.freeTags.length === VOLUME_CALLS_MAX, 'rings to volumes are given up that are in use');
    this.requests.dispose();
  }
}
