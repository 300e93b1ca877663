/** Disks lose power under load, and with it what they had not flushed: all of them, or one of a mirror's. */

import type { CycleKind } from '../cycle.js';

export const all: CycleKind = {
  name: 'power-cut',
  weight: 10,
  media: ['power', 'evil'],
  async run(world) {
    const load = await world.load([5]);
    await load.reach(1 + world.random.below(200));
    await world.powerFails(load);
  },
};

export const one: CycleKind = {
  name: 'power-cut-one',
  weight: 4,
  media: ['power', 'evil'],
  copiesMin: 2,
  async run(world) {
    const victim = world.random.pick(world.disks);
    const load = await world.load();
    await load.reach(1 + world.random.below(100));
    world.note(`cut ${victim.path}`);
    await victim.cut();
    await load.reach(50);
    await world.giveBack(victim);
    await load.reach(20);
    await world.stop(load);
  },
};
