/** Clocks that are wrong by a day, at each party of a cluster: what is told to people is wrong, and nothing else. */

import * as assert from 'uvu/assert';
import type { Party } from '#strake/sim/cluster/party.js';
import { check, run } from '../support/check.js';
import { Stage } from '../support/cluster-stage.js';

const DAY_MS = 86_400_000;

/** A member dies and comes back, and another client takes over, while the clock of a party is wrong and is set right again. */
async function course(stage: Stage, wrong: Party): Promise<void> {
  const [client, next] = stage.clients;
  const [, second] = stage.nodes;
  const value = await stage.wrote(client, 0);
  wrong.host.clock.setRealtime(DAY_MS);
  assert.is(await stage.read(client, 0), value.value);
  await stage.pause(1000);
  const events = await stage.world.settle(stage.cluster.manager.program.manager.events(0));
  assert.not(
    events.some(({ kind }) => kind === 'node-down'),
    'nobody is missed',
  );
  stage.kill(second);
  const after = await stage.wrote(client, 1);
  await stage.becomes(second, 'offline');
  wrong.host.clock.setRealtime(-DAY_MS);
  await stage.boot(second);
  await stage.becomes(second, 'in-sync');
  assert.is(await stage.read(client, 1), after.value);
  wrong.host.clock.setRealtime(DAY_MS);
  assert.ok(await stage.world.settle(next.serve(true)));
  stage.cluster.holder = next;
  assert.is(await stage.read(next, 1), after.value);
  await stage.wrote(next, 2);
}

check('the clock of the manager is wrong by a day', async () => {
  await Stage.play({}, (stage) => course(stage, stage.cluster.manager));
});

check('the clock of a node is wrong by a day', async () => {
  await Stage.play({}, (stage) => course(stage, stage.nodes[0]));
});

check('the clock of a client is wrong by a day', async () => {
  await Stage.play({}, (stage) => course(stage, stage.clients[0]));
});

run();
