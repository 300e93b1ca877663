/** The node is stopped for up to two seconds under load, and goes on; sometimes it is killed while it is stopped. */

import { setTimeout as sleep } from 'node:timers/promises';
import { type CycleKind, EVERYWHERE } from '../cycle.js';

const PAUSE_MS_MAX = 2000;

export const pause: CycleKind = {
  name: 'pause',
  weight: 1,
  media: EVERYWHERE,
  async run(world) {
    const load = await world.load();
    await load.reach(1 + world.random.below(100));
    const { child } = world.node;
    // The pause is the fault itself: short ones are likelier, as they are cheaper.
    const lengthMs = Math.round(PAUSE_MS_MAX * (world.random.below(1000) / 1000) ** 2);
    world.note(`pause for ${lengthMs} ms`);
    child.kill('SIGSTOP');
    await sleep(lengthMs);
    if (world.random.chance(0.25)) await world.killNode();
    else {
      child.kill('SIGCONT');
      await load.reach(50);
    }
    await world.stop(load);
  },
};
