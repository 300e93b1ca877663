/** Content that describes itself: every sector is told from every other, and from what is none. */

import * as assert from 'uvu/assert';
import { GARBAGE, Payload, SECTOR_BYTES } from '#strake/sim/oracle/payload.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { check, run } from '../support/check.js';

for (const sealed of [false, true]) {
  const kind = sealed ? 'sealed' : 'plain';
  const payload = new Payload({ tag: 5, sealed });

  check(`what was filled in is identified, at any alignment of memory: ${kind}`, () => {
    for (const at of [0, 512, 4, 3, 1025]) {
      const bytes = new Uint8Array(8 * SECTOR_BYTES + at);
      for (const value of [1, 2, 77, 0x7fff_ffff, 0]) {
        payload.fill(bytes, at, 1000, 8, value);
        assert.ok(payload.matches(bytes, at, 1000, 8, value));
        assert.not(payload.matches(bytes, at, 1000, 8, value + 1));
        for (let index = 0; index < 8; index += 1) {
          const place = at + index * SECTOR_BYTES;
          assert.is(payload.identify(bytes, place, 1000 + index), value);
          if (value !== 0) assert.is(payload.identify(bytes, place, 1001 + index), GARBAGE);
        }
      }
    }
  });

  check(`every flipped bit and every tear between two writes is garbage: ${kind}`, () => {
    const [one, other] = [new Uint8Array(SECTOR_BYTES), new Uint8Array(SECTOR_BYTES)];
    for (const value of [0, 9]) {
      payload.fill(one, 0, 40, 1, value);
      for (let bit = 0; bit < 8 * SECTOR_BYTES; bit += 1) {
        one[bit >> 3] ^= 1 << (bit & 7);
        assert.is(payload.identify(one, 0, 40), GARBAGE, `bit ${bit}`);
        assert.not(payload.matches(one, 0, 40, 1, value), `bit ${bit}`);
        one[bit >> 3] ^= 1 << (bit & 7);
      }
      payload.fill(other, 0, 40, 1, 10);
      for (let cut = 4; cut < SECTOR_BYTES; cut += 4) {
        const torn = one.slice();
        torn.set(other.subarray(cut), cut);
        assert.is(payload.identify(torn, 0, 40), GARBAGE, `cut at ${cut}`);
      }
    }
  });

  check(`random bytes are garbage: ${kind}`, () => {
    const random = new SimRandom(3);
    const words = new Uint32Array(SECTOR_BYTES / 4);
    for (let round = 0; round < 2000; round += 1) {
      for (let index = 0; index < words.length; index += 1) words[index] = random.next();
      if (round % 2 === 0) words.set([1 + random.below(9), 40]);
      assert.is(payload.identify(new Uint8Array(words.buffer), 0, 40), GARBAGE);
    }
  });
}

check('sealed sectors all have the same CRC32C', () => {
  const payload = new Payload({ sealed: true });
  const bytes = new Uint8Array(4 * SECTOR_BYTES);
  payload.fill(bytes, 0, 3, 4, 12);
  const sums = [0, 1, 2, 3].map((index) => crc32c(bytes, index * SECTOR_BYTES, SECTOR_BYTES));
  assert.is(new Set(sums).size, 1);
});

check('volumes are told apart', () => {
  const bytes = new Uint8Array(SECTOR_BYTES);
  new Payload({ tag: 1 }).fill(bytes, 0, 0, 1, 1);
  assert.is(new Payload({ tag: 2 }).identify(bytes, 0, 0), GARBAGE);
});

run();
