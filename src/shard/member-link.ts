/** The two ways between two shards of a node by which engines of each ask members on the other. */

import { type AnsweringMember, MemberAnswerer } from '../across/member-answerer.js';
import { MemberAsker } from '../across/member-asker.js';
import type { Engine } from '../uring/engine.js';
import type { ConnectMessage } from '../worker/messages.js';

export interface MemberLinkParts {
  readonly engine: Engine;
  /** Where the arena of the node's first shard begins, as this engine addresses it, and its length in bytes. */
  readonly payloads: number;
  readonly payloadBytes: number;
  /** A member here, by the numbers of its device and of the page of its replica; null if it cannot be had. */
  readonly member: (device: number, page: number) => AnsweringMember | null;
}

export class MemberLink {
  readonly asker: MemberAsker;
  private readonly answerer: MemberAnswerer;

  constructor(parts: MemberLinkParts, { engine: otherEngine, asks, answers }: ConnectMessage) {
    const { engine, payloads, payloadBytes, member } = parts;
    const wake = () => engine.wake(otherEngine);
    const common = { completions: engine, memory: engine, wake };
    this.asker = new MemberAsker({
      ...{ ...common, link: asks, payloads },
      inBatch: () => engine.inBatch,
      takeCopies: () => engine.native.take(),
      lend: (memory) => engine.lend(memory),
      takeBack: (memory) => engine.takeBack(memory),
    });
    this.answerer = new MemberAnswerer({
      ...{ ...common, link: answers, guestStart: payloads, guestBytes: payloadBytes, member },
    });
  }

  /** Whether the other shard has died. */
  get lost(): boolean {
    return this.asker.lost;
  }

  /** Takes what has come from the other shard. */
  drain(): void {
    this.asker.drain();
    this.answerer.drain();
  }

  /** Takes what the other shard has asked. */
  drainAsked(): void {
    this.answerer.drain();
  }

  /**
   * The other shard asks for nothing any more. Resolves when nothing of what it has asked is in flight, to whether operations
   * that were given up may still use memory of the node's first shard.
   */
  async closeAnswers(): Promise<boolean> {
    await this.answerer.close();
    return this.answerer.usesMemory;
  }
}
