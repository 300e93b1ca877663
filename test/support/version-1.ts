/** Devices as version 1 left them, from `test/store/images`, and what is in them. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import * as assert from 'uvu/assert';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { type DumpRequest, dumpDevice } from '#strake/store/checking/dump.js';
import { type OpenedStore, openStore } from '#strake/store/opening/open-store.js';
import { segmentsOf } from '../store/images/segments.mjs';
import { readerOf } from './damaged-store.js';
import { project } from './scratch.js';
import { SimStore } from './sim-store.js';

/** A page of a volume as version 1 recovered it; `named`: the groups in which its map names the device. */
export interface FirstPage {
  readonly page: number;
  readonly id: string;
  readonly mapVersion: number;
  readonly nameVersion: number;
  readonly generation: number;
  readonly deleted: boolean;
  readonly named: readonly number[];
  readonly flushed: { readonly generation: number; readonly flushNumber: number };
}

/** The segments of a device, the entries of blocks that they have, and a digest of all that. */
export interface HeldSegments {
  readonly segments: number;
  readonly blocks: number;
  readonly sha256: string;
}

/** What version 1 read from a volume: a digest of its blocks, and which of them are errors. */
export interface FirstVolume {
  readonly id: string;
  readonly sizeBytes: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly sha256: string;
}

interface Described {
  readonly deviceBytes: number;
  readonly devices: readonly (HeldSegments & { readonly pages: readonly FirstPage[] })[];
  readonly volumes: Readonly<Record<string, FirstVolume>>;
}

/** Closed in order, or killed amid writes. */
export const ENDS = ['closed', 'killed'] as const;
export type End = (typeof ENDS)[number];

const IMAGES = join(project, 'test', 'store', 'images');
const described = JSON.parse(readFileSync(join(IMAGES, 'version-1.json'), 'utf8')) as Record<End, Described>;

/** The bytes of the four devices. */
export function firstImages(end: End): Uint8Array[] {
  const { deviceBytes } = described[end];
  const bytes = brotliDecompressSync(readFileSync(join(IMAGES, `version-1-${end}.br`)));
  return Array.from({ length: bytes.length / deviceBytes }, (_, at) =>
    bytes.subarray(at * deviceBytes, (at + 1) * deviceBytes),
  );
}

/** The devices on disks, with what each of them holds once it is recovered. */
export function firstDevices(end: End): { disk: SimDisk; pages: readonly FirstPage[]; held: HeldSegments }[] {
  return firstImages(end).map((bytes, at) => {
    const disk = new SimDisk({ sizeBytes: bytes.length });
    for (let page = 0; page < bytes.length; page += 4096) {
      const part = bytes.subarray(page, page + 4096);
      if (part.some((byte) => byte !== 0)) disk.poke(page, part);
    }
    const { pages, ...held } = described[end].devices[at];
    return { disk, pages, held };
  });
}

/** What version 1 read from each volume. */
export function firstVolumes(end: End): Readonly<Record<string, FirstVolume>> {
  return described[end].volumes;
}

/** What a disk holds now, as it lies there. */
export function heldOn(disk: SimDisk): Promise<HeldSegments> {
  const reader = readerOf(disk);
  const dump = (request: object) => dumpDevice(reader, request as DumpRequest);
  return segmentsOf(dump, (offset, bytes) => disk.peek(offset, bytes));
}

/** Opens a disk for writing. */
export async function opened(disk: SimDisk, seed = 1): Promise<{ sim: SimStore } & OpenedStore> {
  const sim = new SimStore(disk, seed);
  return { sim, ...(await sim.settle(openStore(sim.ports, { path: 'disk' }, sim.hooks))) };
}

/** Opens a disk for writing, and closes it again. */
export async function migrated(disk: SimDisk, seed = 1): Promise<void> {
  const { sim, store, checkpointer } = await opened(disk, seed);
  await sim.settle(checkpointer.close());
  store.dispose();
}

interface DumpedVolume {
  readonly index: number;
  readonly form: number;
  readonly id: string;
  readonly group: number;
  readonly groups: number;
  readonly mapVersion: number;
  readonly headerVersion: number;
  readonly generation: number;
  readonly deleted: boolean;
  readonly members: readonly { readonly deviceId: string; readonly joined: number; readonly place: number }[];
  readonly own: { readonly servedGeneration: number; readonly answered: boolean; readonly flushed: object };
}

/** The pages of volumes that a disk has. */
export async function volumesOn(disk: SimDisk): Promise<DumpedVolume[]> {
  const dumped = await dumpDevice(readerOf(disk), { what: 'volumes' });
  return (dumped as unknown as { volumes: DumpedVolume[] }).volumes;
}

/** Throws unless what the pages of volumes say is what it was. */
export async function checkPages(disk: SimDisk, pages: readonly FirstPage[]): Promise<void> {
  const volumes = await volumesOn(disk);
  for (const { page, named, ...wanted } of pages) {
    const replicas = volumes.filter(({ id, form }) => id === wanted.id && form === 2);
    const kept = volumes.filter(({ id, form }) => id === wanted.id && form === 1);
    assert.equal(
      replicas.map(({ group }) => group),
      named,
    );
    assert.is(kept.length, named.length === 0 ? 1 : 0);
    assert.is((replicas[0] ?? kept[0]).index, page);
    for (const { mapVersion, headerVersion, generation, deleted, own, members } of replicas) {
      assert.equal(
        [mapVersion, headerVersion, generation, deleted, own.flushed],
        [wanted.mapVersion, wanted.nameVersion, wanted.generation, wanted.deleted, wanted.flushed],
      );
      assert.equal([own.answered, own.servedGeneration], [false, wanted.generation]);
      assert.ok(members.every(({ place, joined }, at) => place === at && joined === 0));
    }
  }
  assert.is(
    volumes.length,
    pages.reduce((sum, { named }) => sum + Math.max(1, named.length), 0),
  );
}
