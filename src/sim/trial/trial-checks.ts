/** What a node of a trial is held against at the end of its course, beside what its clients have seen. */

import { checkDevice } from '../../store/checking/fsck.js';
import type { SimDisk } from '../disk/disk.js';
import { discardedWithSlots } from '../oracle/space-check.js';
import type { SimTimeline } from '../world/timeline.js';
import type { TrialDisk, TrialNode } from './trial-node.js';
import { SimViolation } from './trial-world.js';

/** What was discarded has no slot, unless its space was asked to be kept. No jobs run. */
export async function checkSpace(node: TrialNode): Promise<void> {
  for (const { name } of node.volumes) {
    const taken = await node.settle(discardedWithSlots(node.program.process, node.program.node, name));
    if (taken.length > 0) throw new SimViolation(`slots are taken by what was discarded: ${taken.join(', ')}`);
  }
}

interface Named {
  readonly disk: SimDisk;
  readonly name: string;
}

/** After an orderly end a disk is as it should be. */
export async function checkDisk(
  trial: { readonly time: SimTimeline },
  { disk, name }: Named,
  mayFail: boolean,
): Promise<void> {
  const { crc32c } = trial.time;
  const report = await checkDevice(
    {
      sizeBytes: disk.geometry.sizeBytes,
      checksum: (bytes) => crc32c(bytes, 0, bytes.length),
      read: async (offset, length) => disk.peek(offset, length),
    },
    { data: true },
  );
  // Of what a volume of one copy has lost, the damage stays.
  if (report.verdict === 'clean' || mayFail) return;
  const problems = report.problems.map(({ text }) => text).join('; ');
  throw new SimViolation(`${name} is ${report.verdict} after an orderly end: ${problems}`);
}

/** Disks that all volumes call in-sync. */
export function currentDisks(node: TrialNode): TrialDisk[] {
  const states = node.volumes.flatMap(({ name }) => node.program.node.engine(name).record.groups.flat());
  return node.disks.filter((entry) => {
    const own = states.filter(({ deviceId }) => deviceId === entry.deviceId);
    return own.length > 0 && own.every(({ state }) => state === 'in-sync');
  });
}

/** Starts a node with a copy of one disk only, and reads everything from it. */
export async function readAlone(node: TrialNode, { disk, deviceId, name }: TrialDisk): Promise<void> {
  const { plan } = node.trial;
  if (plan.devices > plan.copies) return;
  node.trial.log(`reading from ${name} alone`);
  node.process.kill();
  await node.boot(1);
  await node.settle(node.open({ disk: disk.clone(), name }));
  const without = node.disks.map((entry) => entry.deviceId).filter((id) => id !== deviceId);
  const absent = new Map(node.volumes.map((volume) => [volume.name, without]));
  await node.settle(node.program.call('assemble', { without: absent }));
  await node.sweep();
  await node.settle(node.program.close());
}
