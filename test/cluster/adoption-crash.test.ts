/** A node is adopted by a cluster, or given back, and something dies at any step of that. */

import * as assert from 'uvu/assert';
import { AdoptionWorld, DEATHS, type Death } from '../support/adoption-world.js';
import { check, repetitions, run } from '../support/check.js';

const CHUNKS = 4;
const contentOf = (chunk: number) => 1000 + chunk;

/** The volume is decided about by its node, which serves all that was written. */
async function checkAlone(home: AdoptionWorld, content: (chunk: number) => number, what: string): Promise<void> {
  const life = await home.alone();
  assert.is(life.managed, false, what);
  for (let turn = 0; turn < 2; turn += 1) {
    for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
      assert.is(await home.world.settle(life.read(chunk)), content(chunk), what);
    }
  }
  await home.world.settle(life.close());
}

/** The volume is decided about by the manager, and not by its node. */
async function checkAdopted(home: AdoptionWorld, what: string): Promise<void> {
  const life = await home.alone();
  assert.is(life.managed, true, what);
  assert.throws(() => life.node.engine('v'), undefined, what);
  await home.world.settle(life.close());
  const [volume] = await home.world.settle(home.world.calls.volumes());
  assert.equal([volume.name, volume.blocked], ['v', null], what);
}

/** How many steps it takes when nothing dies. */
async function stepsOf(how: 'adopt' | 'leave'): Promise<number> {
  const home = await AdoptionWorld.make(1, CHUNKS, contentOf);
  if (how === 'leave') await home.handing('adopt');
  const { steps } = home.world.world;
  await home.handing(how);
  return home.world.world.steps - steps;
}

async function adoptedAfter(death: Death, steps: number): Promise<void> {
  const what = `${death} dies after ${steps} steps`;
  const home = await AdoptionWorld.make(steps, CHUNKS, contentOf);
  await home.handing('adopt', death, steps);
  const life = await home.alone();
  const single = !life.managed;
  // Either it serves as before, or it does not serve at all.
  if (single) assert.is(await home.world.settle(life.read(1)), contentOf(1), what);
  else assert.throws(() => life.node.engine('v'), undefined, what);
  await home.world.settle(life.close());
  const again = await home.handing('adopt');
  assert.equal(again?.refused, [], what);
  await checkAdopted(home, what);
  assert.equal((await home.handing('leave'))?.volumes, ['v'], what);
  await checkAlone(home, contentOf, what);
}

async function leftAfter(death: Death, steps: number): Promise<void> {
  const what = `${death} dies after ${steps} steps`;
  const home = await AdoptionWorld.make(steps, CHUNKS, contentOf);
  await home.handing('adopt');
  await home.handing('leave', death, steps);
  const again = await home.handing('leave');
  assert.equal(again?.refused, [], what);
  await checkAlone(home, contentOf, what);
  assert.equal(await home.world.settle(home.world.calls.volumes()), [], `${what}: the manager has forgotten it`);
  // And once more.
  assert.equal((await home.handing('adopt'))?.volumes, ['v'], what);
  await checkAdopted(home, what);
}

for (const death of DEATHS) {
  check(`an adoption is completed by the same command, whenever ${death} dies`, async () => {
    const last = await stepsOf('adopt');
    for (let steps = 1; steps <= last; steps += repetitions(1, 7)) await adoptedAfter(death, steps);
  });

  check(`a volume is given back by the same command, whenever ${death} dies`, async () => {
    const last = await stepsOf('leave');
    for (let steps = 1; steps <= last; steps += repetitions(1, 7)) await leftAfter(death, steps);
  });
}

/**
 * After a crash the node goes on alone if it can, without one of its devices, which misses a write, and gives its volume another
 * name. Returns whether it could.
 */
async function goesOnAlone(home: AdoptionWorld, what: string): Promise<boolean> {
  const { world } = home;
  const before = await home.alone();
  const { managed } = before;
  await world.settle(before.close());
  if (managed) return false;
  home.present = home.disks.slice(0, 1);
  const life = await home.alone();
  await world.settle(life.node.startWithout('v', ['2'.repeat(32)]));
  assert.is(await world.settle(life.write(0, 7)), 4096, what);
  await world.settle(life.node.rename('v', 'w'));
  await world.settle(life.close());
  return true;
}

check('what a node has decided alone since a crash is what is adopted', async () => {
  const last = await stepsOf('adopt');
  let begun = 0;
  for (let steps = 1; steps <= last; steps += repetitions(1, 3)) {
    const what = `after ${steps} steps`;
    const home = await AdoptionWorld.make(steps, CHUNKS, contentOf);
    await home.handing('adopt', steps % 2 === 0 ? 'both' : 'node', steps);
    if (!(await goesOnAlone(home, what))) continue;
    begun += (await home.world.settle(home.world.calls.volumes())).length;
    home.present = [...home.disks];
    assert.equal((await home.handing('adopt'))?.refused, [], what);
    const [{ name, groups }] = await home.world.settle(home.world.calls.volumes());
    assert.is(name, 'w', what);
    assert.equal(groups[0].members.map(({ state }) => state).sort(), ['in-sync', 'offline'], what);
  }
  assert.ok(begun > 0, 'the manager had decided about it');
});

check('what a node has decided alone since it was given back is not given back once more', async () => {
  const last = await stepsOf('leave');
  let alone = 0;
  for (let steps = 1; steps <= last; steps += repetitions(1, 3)) {
    const what = `after ${steps} steps`;
    const home = await AdoptionWorld.make(steps, CHUNKS, contentOf);
    await home.handing('adopt');
    await home.handing('leave', steps % 2 === 0 ? 'both' : 'node', steps);
    if (!(await goesOnAlone(home, what))) continue;
    alone += 1;
    await home.handing('leave').catch(() => null);
    const life = await home.alone();
    assert.is(life.managed, false, what);
    const [volume] = life.node.volumes.named('w');
    assert.is(volume?.stored.name, 'w', what);
    assert.equal(volume.stored.groups[0].map(({ state }) => state).sort(), ['in-sync', 'offline'], what);
    await home.world.settle(life.close());
  }
  assert.ok(alone > 0);
});

run();
