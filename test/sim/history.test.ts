/** Histories that are wrong are rejected, each for its reason; right ones are accepted. */

import * as assert from 'uvu/assert';
import { VolumeHistory } from '#strake/sim/oracle/history.js';
import { HistoryViolation } from '#strake/sim/oracle/history-report.js';
import { Payload, SECTOR_BYTES } from '#strake/sim/oracle/payload.js';
import { check, run } from '../support/check.js';

const SECTORS = 64;
const BLOCK = 8;

/** A history whose operations take one unit of time each, unless they are told to overlap. */
class Story {
  readonly history: VolumeHistory;
  private now = 0;

  constructor(losesPower = true) {
    this.history = new VolumeHistory({ sectors: SECTORS, losesPower });
  }

  tick(): number {
    this.now += 10;
    return this.now;
  }

  begin(sector = 0, count = BLOCK, fua = false): number {
    return this.history.beginWrite(sector, count, fua, this.tick());
  }

  end(operation: number, good = true): number {
    this.history.end(operation, good, this.tick());
    return this.history.valueOf(operation);
  }

  write(sector = 0, count = BLOCK, fua = false): number {
    return this.end(this.begin(sector, count, fua));
  }

  flush(): void {
    this.end(this.history.beginFlush(this.tick()));
  }

  beginRead(sector = 0, count = BLOCK): number {
    return this.history.beginRead(sector, count, this.tick());
  }

  endRead(operation: number, values: number | readonly number[], count = BLOCK): void {
    const each = typeof values === 'number' ? new Array<number>(count).fill(values) : values;
    this.history.endReadValues(operation, each, this.tick());
  }

  read(values: number | readonly number[], sector = 0, count = BLOCK): void {
    this.endRead(this.beginRead(sector, count), values, count);
  }

  kill(): void {
    this.history.killed(this.tick());
  }

  cut(): void {
    this.history.powerCut(this.tick());
  }

  /** Expects a violation by the next checkpoint; returns its message. */
  rejects(act: () => void, sector = 0): string {
    try {
      act();
      this.history.checkpoint();
    } catch (error) {
      assert.instance(error, HistoryViolation);
      const violation = error as HistoryViolation;
      assert.is(violation.sector, sector, violation.message);
      return violation.message;
    }
    throw new Error('accepted what is wrong');
  }
}

check('what is read one by one is what was written last', () => {
  const story = new Story();
  story.read(0);
  const first = story.write();
  story.read(first);
  story.read(first);
  const second = story.write();
  story.read(second);
  story.history.checkpoint();
  story.flush();
  story.history.checkpoint();
  assert.is(story.history.kept, 0, 'all has settled');
  story.read(second);
});

check('a stale read is rejected, and told with what was allowed', () => {
  const story = new Story();
  const first = story.write();
  const second = story.write();
  const text = story.rejects(() => story.read(first));
  assert.match(text, `sector 0: write ${first} was there from 20 µs to 50 µs`);
  assert.match(text, `write ${second} (sectors 0 to 7, begun 30 µs, acknowledged 40 µs)`);
});

check('a lost update is rejected', () => {
  const story = new Story();
  story.write();
  story.rejects(() => story.read(0));
});

check('a value that was never written, or nowhere near, is rejected at once', () => {
  const story = new Story();
  const value = story.write(0);
  assert.match(
    story.rejects(() => story.read(77)),
    'write 77 is not known',
  );
  assert.match(
    new Story().rejects(() => story.read(value, 16), 16),
    'allowed: zeroes, which is durable',
  );
});

check('reads during a write see old or new, but not new and then old', () => {
  const story = new Story();
  const old = story.write();
  const operation = story.begin();
  const value = story.history.valueOf(operation);
  story.read(old);
  story.read(value);
  story.history.checkpoint();
  story.rejects(() => story.read(old));
  const other = new Story();
  const writing = other.begin();
  const reads = [other.beginRead(), other.beginRead()];
  other.endRead(reads[0], other.history.valueOf(writing));
  other.endRead(reads[1], 0);
  other.history.checkpoint();
  other.read(other.history.valueOf(writing));
  other.end(writing);
  other.history.checkpoint();
});

check('two writes at once land in either order, but in the same for all', () => {
  for (const last of [0, 1]) {
    const story = new Story();
    const operations = [story.begin(), story.begin()];
    const values = operations.map((operation) => story.end(operation));
    story.read(values[last]);
    story.history.checkpoint();
    story.read(values[last]);
    story.rejects(() => story.read(values[1 - last]));
  }
});

check('a read that a checkpoint meets under way may still see what is overwritten and flushed meanwhile', () => {
  const story = new Story();
  const first = story.write();
  const reading = story.beginRead();
  const second = story.write();
  story.flush();
  story.history.checkpoint();
  story.endRead(reading, first);
  story.history.checkpoint();
  story.read(second);
  assert.match(
    story.rejects(() => story.read(first)),
    `write ${second}`,
  );
});

check('what was acknowledged outlives the process, what was under way may do so, sector by sector', () => {
  const story = new Story();
  const old = story.write();
  const operation = story.begin();
  const value = story.history.valueOf(operation);
  story.kill();
  const torn = [old, value, old, old, value, value, old, old];
  story.read(torn);
  story.read(torn);
  story.history.checkpoint();
  story.rejects(() => story.read(old), 1);
  const other = new Story();
  other.write();
  other.kill();
  other.rejects(() => other.read(0));
  const late = new Story();
  const dead = late.begin();
  late.kill();
  const next = late.write();
  late.read(next);
  late.history.checkpoint();
  late.rejects(() => late.read(late.history.valueOf(dead)));
});

check('a power cut takes what was not flushed, sector by sector, and nothing else', () => {
  const story = new Story();
  const flushed = story.write();
  story.flush();
  const [second, third] = [story.write(), story.write()];
  story.cut();
  const found = [flushed, second, third, flushed, third, third, second, second];
  story.read(found);
  story.cut();
  // What has been found does not change any more.
  story.read(found);
  story.rejects(() => story.read(third), 0);
  const lost = new Story();
  lost.write();
  lost.flush();
  lost.cut();
  lost.rejects(() => lost.read(0));
});

check('a power cut brings nothing back that was overwritten and flushed', () => {
  const story = new Story();
  const [first, second] = [story.write(), story.write()];
  story.flush();
  story.cut();
  story.rejects(() => story.read(first));
  story.read(second);
});

check('a flush covers only what was acknowledged before it began', () => {
  const story = new Story();
  const operation = story.begin();
  const flush = story.history.beginFlush(story.tick());
  story.end(operation);
  story.end(flush);
  story.cut();
  story.read(0);
  story.history.checkpoint();
  const failed = new Story();
  failed.write();
  failed.end(failed.history.beginFlush(failed.tick()), false);
  failed.cut();
  failed.read(0);
  failed.history.checkpoint();
});

check('FUA makes its own write durable, and no other', () => {
  const story = new Story();
  story.write(8);
  const value = story.write(0, BLOCK, true);
  story.cut();
  story.read(0, 8);
  story.read(value);
  const lost = new Story();
  lost.write(0, BLOCK, true);
  lost.cut();
  lost.rejects(() => lost.read(0));
});

check('sectors that nobody has looked at between two power cuts keep all that they may hold', () => {
  const story = new Story();
  const [first, second] = [story.write(), story.write()];
  story.cut();
  story.cut();
  story.read([0, first, second, 0, 0, first, first, second]);
  story.history.checkpoint();
  const third = story.write();
  story.flush();
  story.cut();
  story.rejects(() => story.read(second), 0);
  story.read(third);
});

check('what was under way when power was lost below a living process may be done before, after, or not at all', () => {
  for (const outcome of ['lost', 'done'] as const) {
    const story = new Story();
    const old = story.write();
    story.flush();
    const unflushed = story.write();
    const operation = story.begin();
    const [read, flush] = [story.beginRead(), story.history.beginFlush(story.tick())];
    story.history.powerCut(story.tick(), true);
    story.endRead(read, 0);
    const value = story.end(operation);
    story.end(flush);
    story.read(outcome === 'done' ? value : old);
    story.history.checkpoint();
    story.flush();
    const next = story.write();
    story.read(next);
    story.flush();
    story.history.checkpoint();
    assert.is(story.history.kept, 0);
    story.rejects(() => story.read(outcome === 'done' ? value : unflushed));
  }
});

check('a block that is only written whole is read whole', () => {
  const story = new Story();
  const operation = story.begin();
  const value = story.history.valueOf(operation);
  const text = story.rejects(() => story.read([value, value, 0, 0, 0, 0, 0, 0]), 2);
  assert.match(text, 'torn block');
  // Parts of it that are read one by one belong to one whole.
  const parts = new Story();
  const writing = parts.begin();
  parts.read(parts.history.valueOf(writing), 0, 4);
  parts.rejects(() => parts.read(0, 4, 4));
  // Blocks of one write are not.
  const two = new Story();
  const large = two.begin(0, 2 * BLOCK);
  two.read(two.history.valueOf(large), 0);
  two.read(0, 8);
  two.end(large);
  two.history.checkpoint();
});

check('a block may be torn where that is nobody’s fault, and is whole again once it is written whole', () => {
  for (const tear of ['part', 'failure', 'death', 'power cut'] as const) {
    const story = new Story();
    const operation = tear === 'part' ? story.begin(0, 2) : story.begin();
    const value = story.history.valueOf(operation);
    if (tear === 'part') story.end(operation);
    else if (tear === 'failure') story.end(operation, false);
    else if (tear === 'death') story.kill();
    else story.cut();
    story.read([value, value, 0, 0, 0, 0, 0, 0]);
    story.history.checkpoint();
    const whole = story.write();
    story.read(whole);
    story.flush();
    story.history.checkpoint();
    const next = story.begin();
    story.rejects(() => story.read([whole, story.history.valueOf(next), ...new Array(6).fill(whole)]), 1);
  }
});

check('what was answered with an error may be done or not, but not after it was written again', () => {
  for (const done of [false, true]) {
    const story = new Story();
    const old = story.write();
    const failing = story.begin();
    const failed = story.end(failing, false);
    story.read(done ? failed : old);
    story.history.checkpoint();
    if (done) story.rejects(() => story.read(old));
    else story.read(failed);
    const next = story.write();
    story.read(next);
    if (!done) story.rejects(() => story.read(failed));
  }
});

check('what a writer was asked for takes effect before another serves, or never, whenever it is answered', () => {
  const story = new Story();
  const { history } = story;
  history.writer = 1;
  const old = story.write();
  const failed = story.begin(16);
  story.end(failed, false);
  history.fence(2, story.tick());
  history.writer = 2;
  story.read(old);
  story.read(story.write(16), 16);
  const text = story.rejects(() => story.read(history.valueOf(failed), 16), 16);
  assert.match(text, `write ${history.valueOf(failed)}`);
});

check('what had no effect when another took over is not acknowledged later', () => {
  const story = new Story();
  story.history.writer = 1;
  const late = story.begin();
  story.history.fence(2, story.tick());
  story.read(0);
  story.rejects(() => story.end(late));
});

check('a writer that another has replaced may still answer what had taken effect', () => {
  const story = new Story();
  const { history } = story;
  history.writer = 1;
  const [seen, unseen] = [story.begin(), story.begin(16)];
  history.fence(2, story.tick());
  history.writer = 2;
  story.read(history.valueOf(seen));
  story.end(seen);
  story.end(unseen);
  const own = story.write();
  history.killed(story.tick(), 1);
  story.read(own);
  story.read(history.valueOf(unseen), 16);
  history.checkpoint();
});

check('the end of one writer ends nothing that another was asked for', () => {
  const story = new Story();
  const { history } = story;
  history.writer = 1;
  const dead = story.begin();
  history.writer = 2;
  const other = story.begin(16);
  history.killed(story.tick(), 1);
  assert.throws(() => story.end(dead), /not under way/);
  story.read(0, 16);
  story.end(other);
  story.read(history.valueOf(other), 16);
  history.checkpoint();
});

check('a trim zeroes the whole blocks in its range, a zeroing all of it', () => {
  const story = new Story();
  const value = story.write(0, 3 * BLOCK);
  story.end(story.history.beginTrim(4, 2 * BLOCK, false, story.tick()));
  story.read(value, 0);
  story.read(0, 8);
  story.read(value, 16);
  story.history.checkpoint();
  story.end(story.history.beginTrim(3, 4, false, story.tick()));
  story.read(value, 0);
  story.end(story.history.beginZero(4, BLOCK, false, story.tick()));
  story.read([value, value, value, value, 0, 0, 0, 0]);
  story.history.checkpoint();
  story.rejects(() => story.read(value), 4);
});

check('zeroes of several writes are told apart where that matters', () => {
  const story = new Story();
  const value = story.write();
  const zeroing = [0, 1].map(() => story.history.beginZero(0, BLOCK, false, story.tick()));
  story.read(0);
  const middle = story.write();
  story.read(middle);
  story.read(0);
  for (const each of zeroing) story.end(each);
  story.history.checkpoint();
  // There were only two.
  const last = story.write();
  story.read(last);
  story.rejects(() => story.read(0));
  assert.ok(last > value);
});

check('a history without power cuts forgets what was overwritten without a flush', () => {
  const story = new Story(false);
  for (let index = 0; index < 1000; index += 1) {
    story.read(story.write(8 * (index % 8)), 8 * (index % 8));
    if (index % 100 === 99) story.history.checkpoint();
  }
  assert.is(story.history.kept, 0);
  assert.throws(() => story.cut(), /power cuts/);
});

check('memory is bounded without checkpoints, kills and failures included', () => {
  const story = new Story(false);
  for (let index = 0; index < 60_000; index += 1) {
    const sector = 8 * (index % 8);
    const operation = story.begin(sector, BLOCK);
    if (index % 50 === 0) story.kill();
    else if (index % 50 === 25) story.end(operation, false);
    else story.read(story.end(operation), sector);
  }
  assert.ok(story.history.kept <= 1 << 15, `${story.history.kept}`);
});

check('content that was read is judged, and garbage, shifts and wrong places are described', () => {
  const payload = new Payload({ tag: 7 });
  const history = new VolumeHistory({ sectors: SECTORS, payload });
  const bytes = new Uint8Array(4 * BLOCK * SECTOR_BYTES);
  const operation = history.beginWrite(8, 2 * BLOCK, false, 1);
  history.fill(operation, bytes, 8 * SECTOR_BYTES);
  history.end(operation, true, 2);
  const read = (image: Uint8Array) => history.endRead(history.beginRead(0, 4 * BLOCK, 3), image, 0, 4);
  read(bytes);
  const found = (change: (image: Uint8Array) => void) => {
    const image = bytes.slice();
    change(image);
    try {
      read(image);
    } catch (error) {
      return (error as Error).message;
    }
    throw new Error('accepted');
  };
  const at = (sector: number) => sector * SECTOR_BYTES;
  assert.match(
    found((image) => image.copyWithin(at(9), at(12), at(13))),
    /sector 9: .* sector 12 of write 1, which belongs elsewhere/,
  );
  assert.match(
    found((image) => image.fill(0xa5, at(17), at(18))),
    /sector 17: .* no value \(0 of 128/,
  );
  assert.match(
    found((image) => {
      image[at(10) + 300] ^= 4;
    }),
    /sector 10: .* no value \(127 of 128 words are of write 1/,
  );
  assert.match(
    found((image) => image.fill(0, at(10) + 256, at(11))),
    /sector 10: .* no value \(64 of 128/,
  );
  assert.match(
    found((image) => image.fill(0, at(10), at(11))),
    /sector 10: .* returned a torn block/,
  );
  assert.match(
    found((image) => new Payload({ tag: 8 }).fill(image, at(8), 8, 16, 1)),
    /sector 8: .* no value \(2 of 128/,
  );
});

check('zeroes that were there from the beginning do not prove that a trim under way has happened', [], () => {
  const story = new Story();
  const trim = story.history.beginTrim(0, BLOCK, false, story.tick());
  story.read(0);
  story.read(story.write());
  story.end(trim);
  story.read(0);
  story.history.checkpoint();
});

run();
