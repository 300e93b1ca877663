/**
 * Devices that are lost, come back, are replaced, or are not what they seem: service goes on where it can, nothing stale is
 * ever served, and what cannot be known to be current is refused.
 */

import { createHash } from 'node:crypto';
import { closeSync, copyFileSync, ftruncateSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import * as assert from 'uvu/assert';
import type { JobProgress } from '#strake/client/volume-events.js';
import { check, run } from '../support/check.js';
import { faulty, faultyDisk } from '../support/faulty-disk.js';
import { CLOSED, CRASHED, fsckAll } from '../support/fsck.js';
import { NodeLoad } from '../support/node-load.js';
import { codeOf, formatAll, NodeProcess } from '../support/node-process.js';
import { scratchFile } from '../support/scratch.js';
import { SectorHistory } from '../support/sector-history.js';

const MIB = 1 << 20;
const SIZE = 4 * MIB;
const DEVICE = 24 * MIB;
const SLOT = 64 << 10;

class Mirror {
  readonly files = [scratchFile(DEVICE), scratchFile(DEVICE)];
  ids: string[] = [];
  readonly history = new SectorHistory(7, SIZE);
  private seed = 1;

  static async make(): Promise<Mirror> {
    const mirror = new Mirror();
    mirror.ids = await formatAll(mirror.files, SLOT);
    const node = await NodeProcess.start({ devices: mirror.files });
    await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout: 'mirror' });
    await mirror.write(node, 300);
    await node.close();
    return mirror;
  }

  open(which: readonly number[], without: readonly number[] = []): Promise<NodeProcess> {
    return NodeProcess.start({
      devices: which.map((index) => this.files[index]),
      without: without.length === 0 ? {} : { main: without.map((index) => this.ids[index]) },
    });
  }

  /** Lets clients write so many requests. */
  async write(node: NodeProcess, requests: number): Promise<void> {
    this.seed += 1;
    const load = await NodeLoad.start(node, 'main', this.history, { seed: this.seed });
    await load.reach(requests);
    await load.stop();
  }

  async check(node: NodeProcess, what: string): Promise<void> {
    const client = await node.connect('main');
    // Members take turns; an odd number of reads between two of one segment shows both.
    for (let round = 0; round < 3; round += 1) {
      this.history.check(await client.read(0, SIZE), 'death', what);
      await client.read(0, 4096);
    }
    await client.destroy();
  }

  /** Closes the node, and looks at each copy alone, as what it would serve if it were all that is left. */
  async checkEach(node: NodeProcess, what: string, verdicts = CLOSED): Promise<void> {
    await node.close();
    await fsckAll(this.files, verdicts, what);
    for (const index of [0, 1]) {
      const copies = this.files.map((file) => {
        const copy = scratchFile(0);
        copyFileSync(file, copy);
        return copy;
      });
      const alone = await NodeProcess.start({ devices: [copies[index]], without: { main: [this.ids[1 - index]] } });
      await this.check(alone, `${what}, copy ${index} alone`);
      await alone.close();
    }
  }

  /** A copy of a device's file as it is now. */
  image(index: number): string {
    const copy = scratchFile(0);
    copyFileSync(this.files[index], copy);
    return copy;
  }
}

/** The job that brought a member up to date. */
async function syncJob(node: NodeProcess): Promise<JobProgress> {
  await node.reach('main', 'ok');
  const job = (await node.volume('main')).jobs.find(({ kind }) => kind !== 'scrub');
  assert.ok(job);
  return job as JobProgress;
}

check('a device that fails under load is done without, and replaced by a new one under load', faulty, async () => {
  const disk = await faultyDisk(DEVICE);
  const [good, spare] = [scratchFile(DEVICE), scratchFile(DEVICE)];
  const [goodId, lostId] = await formatAll([good, disk.path], SLOT);
  const node = await NodeProcess.start({ devices: [good, disk.path] });
  const { clusterId } = await node.status();
  const history = new SectorHistory(3, SIZE);
  await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout: 'mirror' });
  const load = await NodeLoad.start(node, 'main', history, { seed: 11 });
  await load.reach(300);
  disk.fail(true);
  await load.reach(300);
  const degraded = await node.reach('main', 'degraded');
  assert.is(degraded.groups[0].find(({ deviceId }) => deviceId === lostId)?.state, 'offline');
  assert.ok(degraded.counters.degradedWrites > 0);
  const status = await node.status();
  assert.is.not(status.verdict, 'ok');
  assert.ok(
    status.checks.some(
      ({ name, state, text }) => name === 'volume main' && state === 'warning' && text.includes(lostId),
    ),
  );
  assert.is(await codeOf(node.call('replaceDevice', goodId, spare)), 'ERR_STRAKE_NOT_FORMATTED');
  const [spareId] = await formatAll([spare], SLOT, clusterId);
  assert.is(await codeOf(node.call('replaceDevice', goodId, spare)), 'ERR_STRAKE_VOLUME_BUSY');
  await node.call('replaceDevice', lostId, spare);
  await load.reach(300);
  await node.reach('main', 'ok');
  await load.reach(100);
  await load.stop();
  const client = await node.connect('main');
  history.check(await client.read(0, SIZE), 'death', 'rebuilt');
  await client.destroy();
  await node.call('removeDevice', lostId);
  await node.close();
  await disk.remove();
  await fsckAll([good, spare], CLOSED, 'rebuilt');
  for (const [path, other] of [
    [good, spareId],
    [spare, goodId],
  ]) {
    const copy = scratchFile(0);
    copyFileSync(path, copy);
    const alone = await NodeProcess.start({ devices: [copy], without: { main: [other] } });
    const reader = await alone.connect('main');
    history.check(await reader.read(0, SIZE), 'death', `${path} alone`);
    await reader.destroy();
    await alone.close();
  }
});

check('a device that is in use is not let go of', async () => {
  const mirror = await Mirror.make();
  const node = await mirror.open([0, 1]);
  for (const id of mirror.ids) assert.is(await codeOf(node.call('removeDevice', id)), 'ERR_STRAKE_VOLUME_BUSY');
  await mirror.write(node, 100);
  await mirror.check(node, 'after refusing');
  assert.is((await node.volume('main')).state, 'ok');
  await mirror.checkEach(node, 'after refusing');
});

check('a volume does not start without a device that may hold newer data, unless that is said by name', async () => {
  const mirror = await Mirror.make();
  const node = await mirror.open([0]);
  const volume = await node.volume('main');
  assert.is(volume.state, 'unproven');
  assert.ok(volume.reason.includes(mirror.ids[1]));
  assert.is((await node.status()).verdict, 'critical');
  assert.ok(
    await node.connect('main').then(
      () => false,
      () => true,
    ),
    'it is not served',
  );
  assert.is(await codeOf(node.call('startVolume', 'main', { without: [] })), 'ERR_STRAKE_INVALID_ARGUMENT');
  assert.is(await codeOf(node.call('startVolume', 'main', { without: [mirror.ids[0]] })), 'ERR_STRAKE_UNPROVEN');
  // It comes, and then nothing is missing any more.
  await node.call('addDevice', mirror.files[1]);
  assert.is((await node.volume('main')).state, 'ok');
  await mirror.check(node, 'both are there');
  await mirror.checkEach(node, 'both are there');
});

check('a device that was away is brought up to date by comparing', async () => {
  const mirror = await Mirror.make();
  const node = await mirror.open([0], [1]);
  await mirror.check(node, 'alone');
  const client = await node.connect('main');
  for (const block of [3, 700]) {
    const change = mirror.history.begin(block * 8, 8, 'write');
    await client.write(block * 4096, mirror.history.payload(change));
    mirror.history.end(change, true);
  }
  const trimmed = mirror.history.begin(SLOT / 512, SLOT / 512, 'zero');
  await client.ask({ type: 6, offset: SLOT, length: SLOT });
  mirror.history.end(trimmed, true);
  await client.flush();
  await client.destroy();
  await node.call('addDevice', mirror.files[1]);
  const { bytesCopied, kind } = await syncJob(node);
  assert.is(kind, 'resync');
  assert.ok(bytesCopied >= 2 * 4096 && bytesCopied <= 2 * 4096 + SLOT, `copied ${bytesCopied} bytes`);
  await mirror.check(node, 'brought up to date');
  await mirror.checkEach(node, 'brought up to date');
});

check('a device comes back under load, and is lost again, and comes back', async () => {
  const mirror = await Mirror.make();
  let node = await mirror.open([0], [1]);
  await mirror.write(node, 200);
  const load = await NodeLoad.start(node, 'main', mirror.history, { seed: 99 });
  await load.reach(20);
  await node.call('addDevice', mirror.files[1]);
  await load.reach(50);
  // Wherever it is in this.
  await node.kill();
  await load.stop();
  node = await mirror.open([1, 0]);
  await node.reach('main', 'ok');
  await mirror.check(node, 'after a crash while it was brought up to date');
  await mirror.checkEach(node, 'after a crash while it was brought up to date');
});

for (const [taken, later] of [
  ['closed in order', 'clean'],
  ['while it was in use', 'clean'],
] as const) {
  check(`an older copy of a device, taken ${taken}, is not believed, the node ${later} later`, async () => {
    const mirror = await Mirror.make();
    let old = mirror.image(1);
    const node = await mirror.open([0, 1]);
    await mirror.write(node, 100);
    if (taken === 'while it was in use') {
      const client = await node.connect('main');
      await client.flush();
      await client.destroy();
      old = mirror.image(1);
    }
    await mirror.write(node, 300);
    if (later === 'clean') await node.close();
    else await node.kill();
    copyFileSync(old, mirror.files[1]);
    const again = await mirror.open([0, 1]);
    await mirror.check(again, 'with an older copy');
    await again.reach('main', 'ok');
    await mirror.check(again, 'in sync');
    await mirror.checkEach(again, 'in sync');
  });
}

check('an older copy that is added to a running node is not believed', async () => {
  const mirror = await Mirror.make();
  const old = mirror.image(1);
  const node = await mirror.open([0, 1]);
  await mirror.write(node, 300);
  await node.close();
  const alone = await mirror.open([0], [1]);
  await mirror.write(alone, 50);
  copyFileSync(old, mirror.files[1]);
  await alone.call('addDevice', mirror.files[1]);
  await alone.reach('main', 'ok');
  await mirror.check(alone, 'in sync');
  await mirror.checkEach(alone, 'in sync');
});

check('both sides went on alone: afterwards the copies are equal, and nothing is a mixture', async () => {
  const mirror = await Mirror.make();
  const sides = [0, 1].map((index) => ({ index, file: mirror.files[index] }));
  const contents: Buffer[] = [];
  for (const { index } of sides) {
    const node = await mirror.open([index], [1 - index]);
    const client = await node.connect('main');
    for (let block = index; block < 40; block += 1 + index)
      await client.write(block * 4096, Buffer.alloc(4096, 0x50 + index));
    await client.flush();
    contents.push(await client.read(0, SIZE));
    await client.destroy();
    await node.close();
  }
  const node = await mirror.open([0, 1]);
  await node.reach('main', 'ok');
  const client = await node.connect('main');
  const seen = await client.read(0, SIZE);
  assert.ok(
    contents.some((content) => content.equals(seen)),
    'what one side had',
  );
  await client.read(0, 4096);
  assert.ok((await client.read(0, SIZE)).equals(seen), 'the same from both');
  await client.destroy();
  await node.close();
});

check('copies of a device, and devices of another cluster, are refused, and left as they are', async () => {
  const mirror = await Mirror.make();
  const clone = mirror.image(1);
  const stranger = scratchFile(DEVICE);
  await formatAll([stranger], SLOT);
  for (const other of [clone, stranger]) {
    assert.is(await codeOf(NodeProcess.start({ devices: [...mirror.files, other] })), 'ERR_STRAKE_WRONG_DEVICE');
    assert.is(
      await codeOf(NodeProcess.start({ devices: [mirror.files[0], other, mirror.files[1]] })),
      'ERR_STRAKE_WRONG_DEVICE',
    );
  }
  // The last attempt has opened the copy before the device it was made of.
  const before = [clone, stranger].map(copyOf);
  const node = await mirror.open([0, 1]);
  for (const other of [clone, stranger]) {
    assert.is(await codeOf(node.call('addDevice', other)), 'ERR_STRAKE_WRONG_DEVICE');
    assert.is(await codeOf(node.call('replaceDevice', mirror.ids[0], other)), 'ERR_STRAKE_WRONG_DEVICE');
  }
  assert.equal([clone, stranger].map(copyOf), before);
  await mirror.check(node, 'after refusing');
  await mirror.checkEach(node, 'after refusing');
});

function copyOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

check('a device that was cut short, has lost its superblocks, or was never formatted is refused', async () => {
  const mirror = await Mirror.make();
  const whole = mirror.image(1);
  const [file] = mirror.files.slice(1);
  truncateSync(file, DEVICE / 2);
  const short = await codeOf(mirror.open([0, 1]));
  assert.ok(['ERR_STRAKE_DAMAGED', 'ERR_STRAKE_NOT_FORMATTED', 'ERR_STRAKE_TOO_SMALL'].includes(short), short);
  truncateSync(file, 0);
  truncateSync(file, DEVICE);
  assert.is(await codeOf(mirror.open([0, 1])), 'ERR_STRAKE_NOT_FORMATTED');
  // The other one serves alone, if that is wanted, and takes it back when it is whole again.
  const node = await mirror.open([0], [1]);
  await mirror.write(node, 50);
  assert.is(await codeOf(node.call('addDevice', file)), 'ERR_STRAKE_NOT_FORMATTED');
  copyFileSync(whole, file);
  await node.call('addDevice', file);
  await node.reach('main', 'ok');
  await mirror.check(node, 'whole again');
  await mirror.checkEach(node, 'whole again');
});

check('a device that has grown, and one that has lost its first superblock, serve what they hold', async () => {
  const mirror = await Mirror.make();
  const grown = openSync(mirror.files[0], 'r+');
  ftruncateSync(grown, DEVICE + 8 * MIB);
  closeSync(grown);
  const scratched = openSync(mirror.files[1], 'r+');
  writeSync(scratched, Buffer.alloc(4096), 0, 4096, 0);
  closeSync(scratched);
  const node = await mirror.open([0, 1]);
  await mirror.write(node, 50);
  await mirror.check(node, 'grown');
  // That it has grown is told, and harmless.
  await mirror.checkEach(node, 'grown', CRASHED);
});

check('a device for which the others are not there is replaced by nobody', async () => {
  const mirror = await Mirror.make();
  const node = await mirror.open([0]);
  const spare = scratchFile(DEVICE);
  await formatAll([spare], SLOT, (await node.status()).clusterId);
  assert.is(await codeOf(node.call('replaceDevice', mirror.ids[1], spare)), 'ERR_STRAKE_UNAVAILABLE');
  await node.call('startVolume', 'main', { without: [mirror.ids[1]] });
  await node.call('replaceDevice', mirror.ids[1], spare);
  await node.reach('main', 'ok');
  await mirror.check(node, 'rebuilt');
  await node.close();
  // The one that was replaced has no say any more, and is no member.
  const back = await NodeProcess.start({ devices: [mirror.files[0], spare, mirror.files[1]] });
  assert.is((await back.volume('main')).state, 'ok');
  await mirror.check(back, 'with the one that was replaced');
  await back.close();
  // By itself it must not serve what it remembers.
  const stale = await NodeProcess.start({ devices: [mirror.files[1]] });
  assert.is((await stale.volume('main')).state, 'unproven');
  await stale.close();
});

run();
