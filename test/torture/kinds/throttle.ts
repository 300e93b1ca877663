/** A loop device is made slow by the kernel's own throttle (cgroup v1, blkio), for the node alone, under load. */

import { existsSync, mkdirSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import type { Need } from '../../support/check.js';
import { atEnd } from '../../support/scratch.js';
import type { CycleKind } from '../cycle.js';

const GROUPS = '/sys/fs/cgroup/blkio';
/** Operations of each kind that a second allows. */
const IOPS = [200, 1000];

export const blkio: Need = () =>
  existsSync(`${GROUPS}/blkio.throttle.write_iops_device`) ? undefined : 'needs blkio.throttle of cgroup v1';

function deviceNumber(path: string): string {
  const { rdev } = statSync(path);
  return `${(rdev >> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >> 12) & 0xfff00)}`;
}

export const throttle: CycleKind = {
  name: 'throttle',
  weight: 3,
  media: ['loop'],
  needs: [blkio],
  async run(world) {
    const victim = world.random.pick(world.disks);
    const group = `${GROUPS}/strake-torture-${world.node.child.pid}`;
    mkdirSync(group);
    const { pid } = world.node.child;
    const remove = () => {
      if (!existsSync(group)) return;
      // A group goes when nobody is in it; a process that has ended is in none.
      try {
        writeFileSync(`${GROUPS}/cgroup.procs`, String(pid));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
      rmdirSync(group);
    };
    const forget = atEnd(remove);
    const limit = `${deviceNumber(victim.path)} ${world.random.pick(IOPS)}\n`;
    for (const kind of ['read', 'write']) writeFileSync(`${group}/blkio.throttle.${kind}_iops_device`, limit);
    writeFileSync(`${group}/cgroup.procs`, String(pid));
    world.note(`throttle ${limit.trim()}`);
    const load = await world.load();
    await load.reach(1 + world.random.below(60));
    if (world.random.chance(0.5)) await world.killNode();
    await world.stop(load);
    remove();
    forget();
  },
};
