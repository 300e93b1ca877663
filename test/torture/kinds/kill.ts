/** The process of the node is killed at a random time under load; its worker alone, or all of it. */

import { until } from '../../support/scratch.js';
import { type CycleKind, EVERYWHERE } from '../cycle.js';

export const kill: CycleKind = {
  name: 'kill',
  weight: 12,
  media: EVERYWHERE,
  async run(world) {
    const load = await world.load();
    await load.reach(1 + world.random.below(200));
    await world.killNode();
    await world.stop(load);
  },
};

/** The worker dies, and another opens devices, volume and server again. */
export const worker: CycleKind = {
  name: 'worker',
  weight: 2,
  media: EVERYWHERE,
  async run(world) {
    const load = await world.load();
    await load.reach(1 + world.random.below(150));
    world.note('kill the worker');
    await world.node.call('killWorker');
    await world.stop(load);
    await until('the node to be opened again', () =>
      world.node.connect('main').then(
        (client) => client.destroy().then(() => true),
        () => false,
      ),
    );
    const again = await world.load();
    await again.reach(20);
    await world.stop(again);
  },
};
