/** Reads of a managed volume go out while every member in-sync may be relied on, and wait until then. */

import * as assert from 'uvu/assert';
import { LeaseBook } from '#strake/client/members/read-lease.js';
import { BootTime } from '#strake/core/boot-time.js';
import { EIO } from '#strake/core/errno.js';
import { newestVersion } from '#strake/layout/volume-map.js';
import { check, run } from '../support/check.js';
import { BLOCK } from '../support/segment-world.js';
import { SEGMENT, SIZE, VolumeBench } from '../support/volume-bench.js';

const HOLD_MS = 5_000;

/** A volume of two members whose first segment holds ones, under leases of both. */
async function leased(): Promise<VolumeBench> {
  const bench = await new VolumeBench(['in-sync', 'in-sync'], () => {}, { holdMs: () => HOLD_MS }).start();
  bench.write(60, 0, SEGMENT, 1);
  await bench.world.drain();
  return bench;
}

check('a read goes out while every member in-sync may be relied on, and one lease is not enough', async () => {
  const bench = await leased();
  const version = newestVersion(bench.engine.record);
  for (const lacking of bench.members) {
    lacking.lease('never');
    // Of a segment that has slots, and of one that reads as zeroes without asking anybody.
    bench.read(1, 0, BLOCK);
    bench.read(2, SEGMENT, BLOCK);
    await bench.world.drain();
    assert.equal([bench.results[1], bench.results[2]], [undefined, undefined]);
    lacking.lease(version + 1);
    await bench.world.drain();
    assert.equal([bench.results[1], bench.results[2]], [undefined, undefined], 'it is under another map');
    lacking.lease(version);
    await bench.world.drain();
    assert.equal([bench.results[1], bench.results[2]], [BLOCK, BLOCK]);
    bench.results.length = 0;
  }
});

check('writes need no lease, but the part of a block does that is read for them', async () => {
  const bench = await leased();
  for (const member of bench.members) member.lease('never');
  bench.write(1, 0, BLOCK, 2);
  bench.write(2, BLOCK, 512, 3);
  await bench.world.drain();
  assert.equal([bench.results[1], bench.results[2]], [BLOCK, undefined]);
  for (const member of bench.members) member.lease(newestVersion(bench.engine.record));
  await bench.world.drain();
  assert.is(bench.results[2], 512);
});

check('a read that waits for a lease too long fails, and the next one may go', async () => {
  const bench = await leased();
  bench.members[1].lease('never');
  bench.read(1, 0, BLOCK);
  await bench.world.drain();
  bench.passTime(HOLD_MS - 1_000);
  await bench.world.drain();
  assert.is(bench.results[1], undefined);
  bench.passTime(2_000);
  await bench.world.drain();
  assert.is(bench.results[1], -EIO);
  bench.members[1].lease(newestVersion(bench.engine.record));
  bench.read(2, 0, BLOCK);
  await bench.world.drain();
  assert.is(bench.results[2], BLOCK);
});

check('what waits for a lease ends when the volume has stopped', async () => {
  const bench = await leased();
  bench.members[0].lease('never');
  bench.read(1, 0, BLOCK);
  await bench.world.drain();
  bench.engine.depose('another has the right to write');
  await bench.world.drain();
  assert.is(bench.results[1], -EIO);
});

check('without leases nobody is told of holes', async () => {
  const bench = await leased();
  assert.is(bench.extents(1).length, 2);
  bench.members[0].lease('never');
  assert.equal(bench.extents(2), [[SIZE, 0]]);
});

/** Clocks that the test sets. */
function clocks() {
  const time = { bootMs: 1_000, realMs: 1_000_000 };
  const clock = { nowMs: () => 0, after: () => {}, boottimeMs: () => time.bootMs, realtimeMs: () => time.realMs };
  const pass = (ms: number) => {
    time.bootMs += ms;
    time.realMs += ms;
  };
  return { time, pass, book: new LeaseBook(new BootTime(clock)) };
}

const REPLICA = { volumeId: 'a'.repeat(32), group: 0, index: 0, mapVersion: 7 };

check('a lease is counted from before its question was sent, and not from the arrival of the answer', () => {
  const { pass, book } = clocks();
  book.opened(REPLICA);
  const lease = book.of(REPLICA);
  const question = book.question();
  pass(1_500);
  book.answer(question, 2_000, []);
  assert.ok(lease.holds(7));
  pass(299);
  assert.ok(lease.holds(7));
  pass(1);
  assert.not(lease.holds(7), 'the node has counted the whole of it from before the answer came');
});

check('a PONG grants nothing for a map that came after its PING (pong-overtakes-map)', () => {
  const { book } = clocks();
  book.opened(REPLICA);
  const lease = book.of(REPLICA);
  const question = book.question();
  book.changed({ ...REPLICA, mapVersion: 8 });
  book.answer(question, 2_000, []);
  assert.equal([lease.holds(7), lease.holds(8)], [false, false]);
  book.answer(book.question(), 2_000, [{ volumeId: REPLICA.volumeId, group: 0 }]);
  assert.not(lease.holds(8), 'the node has said that it grants none for this one');
  book.answer(book.question(), 2_000, []);
  assert.equal([lease.holds(7), lease.holds(8)], [false, true]);
});

check('what was read from the clock before a pause counts for nothing after it (pause-inside-a-batch)', () => {
  const { time, pass, book } = clocks();
  book.opened(REPLICA);
  const lease = book.of(REPLICA);
  book.answer(book.question(), 2_000, []);
  assert.ok(lease.holds(7));
  pass(1_800);
  assert.not(lease.holds(7));
  // A guest that was frozen: only REALTIME has gone on.
  book.answer(book.question(), 2_000, []);
  time.realMs += 100;
  assert.not(lease.holds(7));
  book.answer(book.question(), 2_000, []);
  assert.ok(lease.holds(7));
  // Clocks may be corrected little by little.
  for (let step = 0; step < 5; step += 1) {
    time.realMs += 50;
    assert.ok(lease.holds(7));
  }
});

check('leases end with their connection, at this end', () => {
  const { book } = clocks();
  book.opened(REPLICA);
  const lease = book.of(REPLICA);
  const question = book.question();
  book.answer(question, 2_000, []);
  book.end();
  assert.not(lease.holds(7));
  book.answer(question, 2_000, []);
  assert.not(lease.holds(7));
});

run();
