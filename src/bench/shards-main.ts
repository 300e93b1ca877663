/**
 * A node whose devices are spread over some shards, in a process of its own: puts loads on a volume of each device from within
 * the shard that serves it, and prints what came of it as JSON. Arguments: a JSON object, see `ShardsTask`.
 *
 * What is written to the slots of the devices is lost, and counts as done: it is what shards do that is measured, not a disk that
 * one of them keeps busy. Devices are of no use afterwards.
 */

import { formatDevice } from '../embed/format.js';
import { type Node, openNode } from '../embed/node.js';

const SEGMENT = 1 << 20;
const VOLUME_BYTES = 48 * SEGMENT;

/** What to do. Loads are random overwrites of 4 KiB. */
export interface ShardsTask {
  readonly files: readonly string[];
  readonly shards: number;
  /** Writes in flight on each volume. */
  readonly depth: number;
  readonly warmUpSeconds: number;
  readonly seconds: number;
}

/** What came of it. */
export interface ShardsReport {
  readonly operations: number;
  readonly seconds: number;
  readonly errors: number;
}

function nameOf(number: number): string {
  return `load-${number}`;
}

/** Makes a device, and tells where its slots begin. */
async function format(file: string, clusterId: string | undefined): Promise<{ clusterId: string; start: number }> {
  const made = await formatDevice(file, { confirm: file, ...(clusterId === undefined ? {} : { clusterId }) });
  const { sizeBytes, slots, slotBytes } = made;
  // They begin at a multiple of their size, and end before the copy of the superblock in the last block.
  return { clusterId: made.clusterId, start: Math.floor((sizeBytes - slots * slotBytes - 1) / slotBytes) * slotBytes };
}

/** A volume on each device: a new one is made where there is most room. */
async function prepare(files: readonly string[]): Promise<void> {
  const node = await openNode({ devices: files });
  try {
    const content = new Uint8Array(SEGMENT).fill(0x5a);
    for (const number of files.keys()) {
      const volume = await node.createVolume({ name: nameOf(number), sizeBytes: VOLUME_BYTES });
      for (let at = 0; at < VOLUME_BYTES; at += SEGMENT) await volume.write(content, at);
      await volume.flush();
    }
  } finally {
    await node.close();
  }
}

async function load(node: Node, { files, depth }: ShardsTask, seconds: number, seed: number): Promise<ShardsReport> {
  const message = { pattern: 'randwrite', blockBytes: 4096, depth, milliseconds: seconds * 1000 } as const;
  const results = await Promise.all(
    files.map((_, number) => node.volume(nameOf(number)).load({ ...message, seed: seed + number })),
  );
  const sum = (of: (result: (typeof results)[number]) => number) => results.reduce((all, one) => all + of(one), 0);
  return {
    operations: sum(({ operations }) => operations),
    errors: sum(({ errors }) => errors),
    seconds: Math.max(...results.map((result) => result.seconds)),
  };
}

async function main(task: ShardsTask): Promise<void> {
  const { files, shards, warmUpSeconds, seconds } = task;
  let clusterId: string | undefined;
  let start = 0;
  for (const file of files) ({ clusterId, start } = await format(file, clusterId));
  await prepare(files);
  const node = await openNode({ devices: files, shards, faults: [{ op: 'write', start, lose: true }] });
  try {
    await load(node, task, warmUpSeconds, 1);
    const report = await load(node, task, seconds, 1 + files.length);
    process.stdout.write(JSON.stringify(report));
  } finally {
    await node.close();
  }
}

await main(JSON.parse(process.argv[2]) as ShardsTask);
