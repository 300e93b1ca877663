/** One of the two threads of the ring's torture test. */

import { parentPort, workerData } from 'node:worker_threads';
import { RING_ENTRY_WORDS, RingConsumer, RingProducer } from '../../dist/ring/spsc-ring.js';

const { there, back, bells, role, count, seed } = workerData;
const asking = role === 'asking';
const producer = new RingProducer(asking ? there : back);
const consumer = new RingConsumer(asking ? back : there);
const bell = new Int32Array(bells);
const [own, other] = asking ? [0, 1] : [1, 0];
const PATIENCE_MS = 60_000;

let state = seed | 1;
/** xorshift32 (Marsaglia, 2003). */
function random() {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return state >>> 0;
}

const mix = (number, word) => Math.imul(number + word * 0x9e3779b1, 0x85ebca6b) | 0;

function fill(word, number) {
  for (let index = 0; index < RING_ENTRY_WORDS; index += 1) producer.words[word + index] = mix(number, index);
}

function verify(word, number) {
  for (let index = 0; index < RING_ENTRY_WORDS; index += 1) {
    if (consumer.words[word + index] !== mix(number, index)) throw new Error(`entry ${number} is torn or out of order`);
  }
}

function publish() {
  if (!producer.publish()) return;
  Atomics.add(bell, other, 1);
  Atomics.notify(bell, other);
}

let sleeps = 0;

/** Sleeps until the other side rings, unless something has arrived. */
function sleep() {
  const before = Atomics.load(bell, own);
  if (!consumer.sleep()) return;
  sleeps += 1;
  if (Atomics.wait(bell, own, before, PATIENCE_MS) === 'timed-out') throw new Error('a wake-up was lost');
}

/** Takes what has arrived, at most `most` entries, checking each. */
function take(received, most) {
  let taken = received;
  for (let word = -1; taken < most; taken += 1) {
    word = consumer.next();
    if (word < 0) break;
    verify(word, taken);
  }
  consumer.release();
  return taken;
}

/** Writes at most `most` entries from number `from` on. */
function give(from, most) {
  let number = from;
  for (; number < most; number += 1) {
    const word = producer.reserve();
    if (word < 0) break;
    fill(word, number);
  }
  publish();
  return number;
}

function work() {
  let sent = 0;
  let received = 0;
  while (received < count || sent < count) {
    const burst = 1 + (random() % 37);
    // The side that answers never sends more than it has been asked.
    const before = sent + received;
    sent = give(sent, Math.min(asking ? count : received, sent + burst));
    received = take(received, Math.min(count, received + burst));
    // With nothing to send and nothing received, only the other side can change that.
    const idle = sent + received === before && (asking ? true : sent === received);
    if (idle && received < count) sleep();
  }
  return received;
}

try {
  parentPort.postMessage({ entries: work(), sleeps });
} catch (error) {
  parentPort.postMessage({ error: String(error), entries: 0, sleeps });
}
