/**
 * Makes the images of version-1 devices that tests migrate, with the program that wrote them: commit e617b84, the last one
 * before the incompatible feature `groups`. It runs in a checkout of that commit, not in this one:
 *
 * ```sh
 * git worktree add /tmp/version-1 e617b84 && cd /tmp/version-1 && npm install && npm run build
 * mkdir -p test/store/images && cp PROJECT/test/store/images/*.mjs test/store/images/
 * node --import tsx test/store/images/make-version-1.mjs PROJECT/test/store/images
 * ```
 *
 * It writes `version-1-closed.br` and `version-1-killed.br`, each the bytes of four devices one after another, and what they
 * hold, as that program recovers and reads it, as `version-1.json`. The same history ends in order in the one, and amid writes in the
 * other:
 *
 * - `wide`: a mirror in two groups; its device 4 was lost, and device 1 has taken its place, so it is in both groups
 * - `pair`: a mirror in one group, with a block that is poison on both copies
 * - `lone`: a single volume with poison, with zeroes that keep their space and with ones that do not
 * - `after`: a single volume that was called `before`
 * - `gone`: deleted, its note is left
 * - device 4 has the map of `wide` that does not name it, beside segments that it had before
 */

import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';
import { DEVICE_KEEP_ALLOCATED } from '#strake/ports/device.js';
import { dumpDevice } from '#strake/store/checking/dump.js';
import { OP_POISON } from '#strake/store/store-op.js';
import { readerOf } from '../../support/damaged-store.ts';
import { deviceIdOf, SimNode } from '../../support/sim-node.ts';
import { BLOCK, diskOf, randomOf, SLOT } from '../../support/sim-store.ts';
import { segmentsOf } from './segments.mjs';

const STRIPES = 12;
const BLOCKS = SLOT / BLOCK;
const VOLUMES = ['wide', 'pair', 'lone', 'after'];
const IDS = { wide: 'a', pair: 'b', lone: 'c', before: 'd', gone: 'e' };

const idOf = (name) => IDS[name].repeat(32);

function create(sim, name, copies) {
  const layout = copies === 1 ? 'single' : 'mirror';
  const spec = { id: idOf(name), name, layout, copies, createdMs: 1_700_000_000_000, sizeBytes: STRIPES * SLOT };
  return sim.settle(sim.node.create(spec));
}

async function demand(promise, expected) {
  const result = await promise;
  if (result !== expected) throw new Error(`${result} instead of ${expected}`);
}

/** Some blocks of most segments, each with a value of its own. */
async function fill(sim, name, from) {
  sim.volume = name;
  for (let stripe = 0; stripe < STRIPES - 2; stripe += 1) {
    for (const block of [0, 3, 4, 15]) await demand(sim.write(stripe, block, from + stripe * BLOCKS + block), BLOCK);
  }
}

function act(sim, operation) {
  return sim.settle(sim.begin(operation));
}

function poison(sim, number, name, stripe, block) {
  const { store } = sim.node.stores.get(deviceIdOf(number));
  const volume = store.volumeTable.indexOf(idOf(name));
  return demand(
    act(sim, (token) => store.settle(OP_POISON, volume, stripe, block, 7, 1, token)),
    0,
  );
}

/** The history up to its end, and the node that is still running. */
async function history(disks) {
  const first = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await first.format(disk, number);
    await first.open(disk);
  }
  await create(first, 'wide', 2);
  await fill(first, 'wide', 1000);
  await demand(first.flush(), 0);
  await first.settle(first.node.close());

  const second = new SimNode(2);
  for (const disk of disks.slice(0, 3)) await second.open(disk);
  await second.settle(second.node.assemble(new Map([['wide', [deviceIdOf(3)]]])));
  second.volume = 'wide';
  await fill(second, 'wide', 2000);
  await second.settle(second.node.replace(deviceIdOf(3), second.node.stores.get(deviceIdOf(0))));
  await second.jobsEnded();
  await demand(second.flush(), 0);
  const map = second.engine.record;
  await second.settle(second.node.close());

  const fourth = new SimNode(3);
  const { store } = await fourth.open(disks[3]);
  if ((await fourth.settle(store.putVolume(map))) < 0) throw new Error('the map could not be stored');
  await fourth.settle(fourth.node.close());

  const third = new SimNode(4);
  for (const disk of disks.slice(0, 3)) await third.open(disk);
  await third.settle(third.node.assemble(new Map()));
  await create(third, 'pair', 2);
  await create(third, 'lone', 1);
  await create(third, 'before', 1);
  await create(third, 'gone', 1);
  for (const [name, from] of [
    ['pair', 3000],
    ['lone', 4000],
    ['before', 5000],
    ['gone', 6000],
  ]) {
    await fill(third, name, from);
    await demand(third.flush(), 0);
  }
  await third.settle(third.node.rename('before', 'after'));
  await third.settle(third.node.delete('gone'));
  third.volume = 'lone';
  const { engine } = third;
  await demand(
    act(third, (token) => engine.zero(3 * BLOCK, 2 * BLOCK, DEVICE_KEEP_ALLOCATED, token)),
    0,
  );
  await demand(
    act(third, (token) => engine.zero(SLOT, 4 * BLOCK, 0, token)),
    0,
  );
  await demand(
    act(third, (token) => engine.discardRange(2 * SLOT, SLOT, 0, token)),
    0,
  );
  const [[{ deviceId }]] = engine.record.groups;
  await poison(third, Number(deviceId[0]) - 1, 'lone', 4, 3);
  await demand(third.flush(), 0);
  third.volume = 'pair';
  for (const member of third.engine.record.groups[0]) {
    await poison(third, Number(member.deviceId[0]) - 1, 'pair', 1, 4);
  }
  await demand(third.flush(), 0);
  // After the last checkpoint, so that the journal is needed.
  for (const name of VOLUMES) {
    third.volume = name;
    await demand(third.write(7, 4, 7000), BLOCK);
    await demand(third.flush(), 0);
    await demand(third.write(7, 5, 7001), BLOCK);
    await demand(third.write(11, 5, 7002), BLOCK);
  }
  return third;
}

/** What a program reads of each volume: for each block the digest of its content, or the error. */
async function contents(disks) {
  const sim = new SimNode(9);
  for (const disk of disks.slice(0, 3)) await sim.open(disk.clone());
  await sim.settle(sim.node.assemble(new Map()));
  const found = {};
  for (const name of VOLUMES) {
    sim.volume = name;
    const hash = createHash('sha256');
    const errors = {};
    for (let block = 0; block < STRIPES * BLOCKS; block += 1) {
      const value = await sim.read(Math.floor(block / BLOCKS), block % BLOCKS);
      if (value < 0) errors[block] = value;
      hash.update(`${block} ${value}\n`);
    }
    const { id, mapVersion, nameVersion, generation, sizeBytes, groups } = sim.engine.record;
    const members = groups.map((group) => group.map(({ deviceId, state }) => `${deviceId[0]} ${state}`));
    found[name] = { id, mapVersion, nameVersion, generation, sizeBytes, members, errors, sha256: hash.digest('hex') };
  }
  return found;
}

/** What each device holds once it has been recovered, by itself, and closed. */
async function devicesOf(disks) {
  const found = [];
  for (const disk of disks) {
    const clone = disk.clone();
    const sim = new SimNode(8);
    const { store } = await sim.open(clone);
    const pages = store.volumes.flatMap((map, page) => {
      if (map === undefined) return [];
      const { id, mapVersion, nameVersion, generation, deleted, groups } = map;
      const named = groups.flatMap((group, at) =>
        group.some((one) => one.deviceId === store.superblock.deviceId) ? [at] : [],
      );
      return [
        {
          page,
          id,
          mapVersion,
          nameVersion,
          generation,
          deleted,
          named,
          flushed: store.volumeTable.flushedMarks[page],
        },
      ];
    });
    await sim.settle(sim.node.close());
    const reader = readerOf(clone);
    const held = await segmentsOf(
      (request) => dumpDevice(reader, request),
      (offset, bytes) => clone.peek(offset, bytes),
    );
    found.push({ pages, ...held });
  }
  return found;
}

async function make(end) {
  const disks = Array.from({ length: 4 }, () => diskOf(48));
  const sim = await history(disks);
  await end(sim, disks);
  const { sizeBytes } = disks[0].geometry;
  const bytes = Buffer.concat(disks.map((disk) => disk.peek(0, sizeBytes)));
  return { bytes, sizeBytes, devices: await devicesOf(disks), contents: await contents(disks) };
}

const ENDS = {
  closed: async (sim) => {
    await sim.settle(sim.node.close());
  },
  killed: async (sim, disks) => {
    // Some that have ended without a flush, and some that never end.
    for (const name of VOLUMES) {
      sim.volume = name;
      await demand(sim.write(8, 4, 8000), BLOCK);
    }
    sim.volume = 'pair';
    const { engine } = sim;
    for (const block of [0, 3]) {
      const at = sim.area(1 + block);
      new Uint32Array(sim.loop.bytes.buffer, at, BLOCK / 4).fill(9000 + block);
      void sim.begin((token) => engine.write(at, BLOCK, 5 * SLOT + block * BLOCK, 0, token));
    }
    await sim.loop.run(() => disks.some((disk) => disk.inFlight > 1));
    for (const [number, disk] of disks.entries()) disk.kill(randomOf(number));
  },
};

const [directory] = process.argv.slice(2);
const described = {};
for (const [name, end] of Object.entries(ENDS)) {
  const { bytes, sizeBytes, devices, contents: volumes } = await make(end);
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 };
  writeFileSync(join(directory, `version-1-${name}.br`), brotliCompressSync(bytes, { params }));
  described[name] = {
    deviceBytes: sizeBytes,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    devices,
    volumes,
  };
}
writeFileSync(join(directory, 'version-1.json'), `${JSON.stringify(described, null, 2)}\n`);
