/**
 * Maps of volumes that contradict themselves, each other, or what a node can do: a node with both devices of a mirror, whose
 * maps were changed and resealed.
 *
 * An input is a list of edits of 8 bytes: which device (2: both), width of the number, place in the page of the map (2 bytes),
 * and what the number is chosen by (4 bytes). Of width `DOUBLE` it puts the id of the first or second member into both places. The node opens the devices or refuses them, starts the volume or says why not,
 * and can be closed and opened once more.
 */

import { StrakeError } from '#strake/core/errors.js';
import { viewOf } from '#strake/layout/fields.js';
import { doubledDevice } from '#strake/layout/volume-map.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { dumpDevice } from '#strake/store/checking/dump.js';
import { type Layout, PAGE_BYTES } from '#strake/store/format/format.js';
import { readerOf, resealTree } from '../../support/damaged-store.js';
import { deviceIdOf, SimNode } from '../../support/sim-node.js';
import { diskOf, SLOT } from '../../support/sim-store.js';
import { interesting, putNumber } from '../mutate.js';
import { demand, type FuzzTarget } from '../target.js';

const EDIT_BYTES = 8;
const EDITS_MAX = 16;
/** In place of a width. */
const DOUBLE = 4;
const MEMBERS_AT = 512;
const MEMBER_BYTES = 64;
const ID_BYTES = 16;
const BOTH = 2;
/** Where the fields of a map and of its first members end. */
const FIELDS_END = MEMBERS_AT + 3 * MEMBER_BYTES;
/** What a reason says that is no decision but an exception. */
const BUG =
  /undefined|not a function|not iterable|Cannot |Invalid (array|typed)|out of bounds|Maximum call|beyond 2\^5/;

interface Mirror {
  readonly disks: readonly SimDisk[];
  /** Where each has its map. */
  readonly maps: readonly number[];
  readonly layout: Layout;
}

/** A mirror of two devices with some data, closed in order, so that the tree has all of it. */
async function makeMirror(): Promise<Mirror> {
  const disks = [diskOf(6), diskOf(6)];
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror();
  for (const stripe of [0, 1, 2]) await sim.write(stripe, 1, 40 + stripe);
  const { layout } = [...sim.node.stores.values()][0].superblock;
  await sim.settle(sim.node.close());
  const maps: number[] = [];
  for (const disk of disks) {
    const { volumes } = (await dumpDevice(readerOf(disk), { what: 'volumes' })) as unknown as {
      volumes: { offset: number }[];
    };
    maps.push(volumes[0].offset);
    disk.attached = false;
  }
  return { disks, maps, layout };
}

/** Puts the id of one of the first two members into the place of the other. */
function double(disk: SimDisk, members: number, which: number): void {
  const id = disk.peek(members + which * MEMBER_BYTES, ID_BYTES);
  disk.poke(members + (1 - which) * MEMBER_BYTES, id);
}

function damaged({ disks, maps, layout }: Mirror, bytes: Uint8Array): SimDisk[] {
  const copies = disks.map((disk) => disk.clone());
  for (let at = 0; at + EDIT_BYTES <= bytes.length && at < EDITS_MAX * EDIT_BYTES; at += EDIT_BYTES) {
    const view = viewOf(bytes.subarray(at, at + EDIT_BYTES));
    const random = new SimRandom(view.getUint32(4, true));
    const width = view.getUint8(1) % 5;
    const chosen = view.getUint16(2, true);
    const number = new Uint8Array([1, 2, 4, 8][width] ?? 0);
    putNumber(number, 0, number.length, random.chance(0.7) ? interesting(random) : random.below(8), true);
    for (const [index, disk] of copies.entries()) {
      if (![index, BOTH].includes(view.getUint8(0) % 3)) continue;
      if (width === DOUBLE) double(disk, maps[index] + MEMBERS_AT, chosen % 2);
      else disk.poke(maps[index] + (chosen % (PAGE_BYTES - 8)), number);
    }
  }
  for (const disk of copies) resealTree(disk, layout);
  return copies;
}

/** Opens what can be opened. Returns the ids of what was. */
async function open(sim: SimNode, disks: readonly SimDisk[]): Promise<string[]> {
  const opened: string[] = [];
  for (const [index, disk] of disks.entries()) {
    try {
      await sim.open(disk);
      opened.push(deviceIdOf(index));
    } catch (error) {
      if (!(error instanceof StrakeError)) throw error;
      demand(!BUG.test(error.message) || error.code === 'ERR_STRAKE_DAMAGED', error.message);
      disk.attached = false;
    }
  }
  await sim.assemble();
  return opened;
}

async function use(sim: SimNode): Promise<void> {
  for (const { name, engine, reason } of sim.node.volumes.values()) {
    demand(engine !== null || reason !== '', `volume ${JSON.stringify(name)} is not started, and nobody says why`);
    demand(!BUG.test(reason), `volume ${JSON.stringify(name)}: ${reason}`);
    if (engine !== null) demand(doubledDevice(engine.record.groups) === null, 'two copies are on one device');
    if (engine === null || name !== 'v' || engine.record.sizeBytes < 4 * SLOT) continue;
    for (const stripe of [0, 1, 2]) await sim.read(stripe, 1);
    await sim.write(1, 2, 99);
    await sim.flush();
    const found = await sim.read(1, 2);
    demand(found === 99 || found < 0, `what was written as 99 reads as ${found}`);
  }
}

async function live(disks: readonly SimDisk[], random: SimRandom): Promise<string[]> {
  const sim = new SimNode(random.next());
  const opened = await open(sim, disks);
  await use(sim);
  try {
    await sim.settle(sim.node.close());
  } catch (error) {
    if (!(error instanceof StrakeError)) throw error;
  }
  for (const disk of disks) {
    disk.kill(random);
  }
  return opened;
}

let mirror: Mirror | undefined;

export const maps: FuzzTarget = {
  name: 'maps',
  covers: ['node', 'client', 'store'],
  bytesMax: EDITS_MAX * EDIT_BYTES,
  corpus: async () => {
    mirror = await makeMirror();
    const doubled = [0, 1, BOTH].map((device) => new Uint8Array([device, DOUBLE, device % 2, 0, 0, 0, 0, 0]));
    return [new Uint8Array(0), ...doubled];
  },
  generate: (random) => {
    const bytes = new Uint8Array(EDIT_BYTES * (1 + random.below(4)));
    const view = viewOf(bytes);
    for (let at = 0; at < bytes.length; at += EDIT_BYTES) {
      bytes[at] = random.below(3);
      bytes[at + 1] = random.chance(0.9) ? random.below(4) : DOUBLE;
      const place = random.chance(0.5) ? 48 + random.below(52) : random.below(FIELDS_END);
      view.setUint16(at + 2, random.chance(0.5) ? place - (place % 8) : place, true);
      view.setUint32(at + 4, random.next(), true);
    }
    return bytes;
  },
  run: async (bytes, random) => {
    mirror ??= await makeMirror();
    const disks = damaged(mirror, bytes);
    const once = await live(disks, random);
    const twice = await live(disks, random);
    for (const id of once) demand(twice.includes(id), `device ${id} was opened once, and no more`);
  },
};
