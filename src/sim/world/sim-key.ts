/**
 * The key of a cluster in a simulated world: deterministic, and no secret to anybody. It tells keys apart and notices each
 * change of a message, as a real one does; what somebody who works at it could forge is not simulated.
 */

import { type ClusterKey, MAC_BYTES, NONCE_BYTES } from '../../ports/cluster-key.js';
import type { SimRandom } from './random.js';

const WORDS = MAC_BYTES / 4;
/** The multiplier of FNV-1a of 32 bits. */
const PRIME = 0x0100_0193;

export class SimKey implements ClusterKey {
  private readonly seed: number;
  private readonly random: SimRandom;

  /** @param seed stands for the secret: keys with one seed are the same */
  constructor(seed: number, random: SimRandom) {
    this.seed = seed;
    this.random = random;
  }

  authenticate(message: Uint8Array): Uint8Array {
    const mac = new Uint8Array(MAC_BYTES);
    const view = new DataView(mac.buffer);
    for (let word = 0; word < WORDS; word += 1) view.setUint32(4 * word, this.hash(message, word), true);
    return mac;
  }

  private hash(message: Uint8Array, word: number): number {
    let hash = Math.imul(this.seed ^ 0x811c_9dc5, PRIME) ^ word;
    for (const byte of message) hash = Math.imul(hash ^ byte, PRIME);
    return Math.imul(hash ^ (hash >>> 15) ^ message.length, PRIME) >>> 0;
  }

  verify(message: Uint8Array, mac: Uint8Array): boolean {
    if (mac.length < MAC_BYTES / 2 || mac.length > MAC_BYTES) return false;
    const wanted = this.authenticate(message);
    return mac.every((byte, at) => byte === wanted[at]);
  }

  nonce(): Uint8Array {
    return Uint8Array.from({ length: NONCE_BYTES }, () => this.random.below(256));
  }
}
