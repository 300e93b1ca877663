/** The journal over power cuts: any sectors of what was not durable may be left, and nothing may ever come of them. */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { computeLayout, type Layout, PAGE_BYTES } from '#strake/store/format/format.js';
import { Batch } from '#strake/store/format/journal-batch.js';
import { JournalReader } from '#strake/store/format/journal-reader.js';
import { nextBatchPage } from '#strake/store/format/journal-records.js';
import { check, run } from '../support/check.js';
import { DEVICE_ID } from '../support/sim-store.js';

const RING_PAGES = 40;
const SECTOR = 512;
const LAYOUT: Layout = { ...computeLayout(4 << 20, 64 << 10), journalPages: RING_PAGES };

/** A batch that was being written when the power was cut: how many stamps it has, and which of its sectors are there. */
interface Cut {
  readonly records: number;
  readonly kept: (sector: number) => boolean;
}

/** A ring of pages, over the lives of a store that only writes stamps. */
class Ring {
  readonly bytes = new Uint8Array(RING_PAGES * PAGE_BYTES);
  page = 0;
  sequence = 7;
  private life = 0;

  /** Writes batches, none of them durable, and cuts the power; then opens as a store does. Returns what was replayed. */
  live(cuts: readonly Cut[]): { replayed: Uint8Array[]; written: Uint8Array[] } {
    this.life += 1;
    const written: Uint8Array[] = [];
    let page = this.page;
    cuts.forEach(({ records, kept }, index) => {
      const batch = new Batch(new Uint8Array(16 * PAGE_BYTES), 0);
      batch.begin(this.sequence + index);
      for (let left = records; left > 0; left -= 1) batch.addStamp(index, this.life, left);
      const checksum = (from: number, length: number) => crc32c(batch.bytes, from, length);
      batch.seal(DEVICE_ID, this.life, page, this.sequence - 1, checksum);
      const bytes = batch.bytes.slice(0, batch.pages * PAGE_BYTES);
      written.push(bytes);
      for (let sector = 0; sector * SECTOR < bytes.length; sector += 1) {
        const part = bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR);
        if (kept(sector)) this.bytes.set(part, page * PAGE_BYTES + sector * SECTOR);
      }
      page = nextBatchPage(LAYOUT, page, batch.pages);
    });
    const replayed: Uint8Array[] = [];
    const reader = new JournalReader(this.bytes.slice(), LAYOUT, DEVICE_ID, (part) => crc32c(part));
    const end = reader.replay(this.page, this.sequence, (batch) => replayed.push(batch.bytes));
    assert.is(end.damage, '');
    this.page = end.page;
    this.sequence = end.sequenceMax + 1;
    return { replayed, written };
  }
}

check('what is left of a batch whose header is lost never becomes a part of a later one', () => {
  const ring = new Ring();
  // Of two batches only the end of the second one is left, which no header tells of.
  ring.live([
    { records: 5, kept: () => false },
    { records: 150, kept: (sector) => sector >= 4 },
  ]);
  const { replayed } = ring.live([
    { records: 5, kept: () => true },
    { records: 150, kept: (sector) => sector < 4 },
  ]);
  assert.is(replayed.length, 1);
});

check('after any number of power cuts only whole batches of the last life are replayed', () => {
  // One size in a plan, so that batches come to lie at the same places again; and masks with a beginning or an end.
  const bits = fc.constantFrom(0, 4, 16);
  const mask = fc.oneof(
    bits.map((count) => 2 ** count - 1),
    bits.map((count) => 0x10000 - 2 ** count),
  );
  const lives = fc.array(fc.array(mask, { minLength: 1, maxLength: 3 }), { minLength: 2, maxLength: 8 });
  const property = fc.property(lives, fc.constantFrom(1, 150, 320), (plan, records) => {
    const ring = new Ring();
    for (const masks of plan) {
      const { replayed, written } = ring.live(
        masks.map((mask) => ({ records, kept: (sector) => ((mask >> (sector % 16)) & 1) === 1 })),
      );
      assert.equal(replayed, written.slice(0, replayed.length));
    }
  });
  fc.assert(property, { numRuns: 1000, seed: 20261121 });
});

run();
