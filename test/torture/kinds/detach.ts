/**
 * A loop device is detached under load. The kernel lets whoever has it open keep it, so nothing may fail; with the node's
 * death it goes, the volume goes on without it, and it comes back under another name.
 */

import type { CycleKind } from '../cycle.js';

export const detach: CycleKind = {
  name: 'detach',
  weight: 4,
  media: ['loop'],
  async run(world) {
    const victim = world.random.pick(world.disks);
    const load = await world.load([]);
    await load.reach(1 + world.random.below(100));
    world.note(`detach ${victim.path}`);
    await victim.cut();
    await load.reach(50);
    await world.killNode();
    await world.stop(load);
    if (world.settings.copies === 1) {
      await victim.restore();
      return;
    }
    await world.start({ without: [victim] });
    const alone = await world.load();
    await alone.reach(1 + world.random.below(100));
    await victim.restore();
    world.note(`give back ${victim.path}`);
    await world.node.call('addDevice', victim.path);
    await alone.reach(20);
    await world.stop(alone);
    await world.node.reach('main', 'ok');
  },
};
