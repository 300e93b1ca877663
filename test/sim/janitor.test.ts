/** Volumes that nobody attends to, on whole clusters in the simulator: a node makes their copies equal and gives them back. */

import * as assert from 'uvu/assert';
import type { StrakeError } from '#strake/core/errors.js';
import { differences } from '#strake/sim/oracle/copies-check.js';
import { check, run } from '../support/check.js';
import { Stage } from '../support/cluster-stage.js';

const JANITOR_MS = 5000;

/** What the manager says of the volume. */
async function listed(stage: Stage) {
  const [volume] = await stage.world.settle(stage.cluster.manager.program.manager.volumes());
  return volume;
}

/** A cluster in which nodes attend to volumes after a short time. */
function play(course: (stage: Stage) => Promise<void>, settings: Parameters<typeof Stage.play>[0] = {}) {
  return Stage.play(settings, async (stage) => {
    await stage.world.settle(stage.cluster.manager.program.manager.setTimes({ janitorMs: JANITOR_MS }));
    await course(stage);
  });
}

/** Waits until nobody holds the volume, and all members are in-sync in a map that all have answered. */
async function attended(stage: Stage): Promise<void> {
  const whole = () =>
    stage.map().lease === 'released' && stage.nodes.every((node) => stage.stateOf(node) === 'in-sync');
  for (let round = 0; round < 240 && !(whole() && stage.isEffective()); round += 1) await stage.pause(1000);
  assert.ok(whole() && stage.isEffective(), 'nobody has attended to the volume');
}

async function demandEqual(stage: Stage): Promise<void> {
  const { nodes, world, cluster } = stage;
  const copies = nodes.flatMap(({ process, program }) =>
    [...program.node.stores.values()].map((store) => ({
      completions: process,
      store,
      page: store.pageOf(cluster.volume.id, 0),
    })),
  );
  assert.equal(await world.settle(differences(copies)), []);
}

check('a writer dies amid a write, and nobody attaches: a node makes the copies equal', async () => {
  const told = await play(async (stage) => {
    const [client] = stage.clients;
    const [first] = stage.nodes;
    await stage.wrote(client, 0);
    // One member gets the write, the other one does not.
    stage.cut(client, first);
    stage.write(client, 0);
    await stage.pause(5);
    stage.kill(client);
    assert.is((await listed(stage)).lease, 'exclusive');
    await stage.pause(JANITOR_MS - 1000);
    assert.is((await listed(stage)).lease, 'exclusive', 'its holder may come back');
    await attended(stage);
    await demandEqual(stage);
    assert.ok(await stage.world.settle(stage.clients[1].serve(false)), 'nobody has to be taken over');
    stage.cluster.holder = stage.clients[1];
  });
  assert.ok(told.length > 0);
});

check('a member comes back when the volume has been released: a node brings it up to date', async () => {
  await play(async (stage) => {
    const [client] = stage.clients;
    const [, second] = stage.nodes;
    stage.kill(second);
    await stage.wrote(client, 1);
    await stage.becomes(second, 'offline');
    await stage.world.settle(client.giveBack());
    await stage.pause(3 * JANITOR_MS);
    assert.is(stage.stateOf(second), 'offline', 'nothing can be done while it is away');
    const { generation } = stage.map();
    await stage.boot(second);
    await attended(stage);
    await demandEqual(stage);
    assert.is(stage.map().generation, generation + 1, 'one node did it, once');
    const events = await stage.world.settle(stage.cluster.manager.program.manager.events(0));
    const kinds = events.map(({ kind }) => kind).filter((kind) => kind.startsWith('job-'));
    assert.equal(kinds, ['job-began', 'job-ended']);
  });
});

check('a client that attaches while a node attends to the volume takes it over, unasked', async () => {
  await play(async (stage) => {
    const [client, next] = stage.clients;
    const [, second] = stage.nodes;
    for (let block = 0; block < 16; block += 1) await stage.wrote(client, 4 * block);
    stage.kill(second);
    await stage.wrote(client, 1);
    await stage.becomes(second, 'offline');
    stage.kill(client);
    const { generation } = stage.map();
    await stage.until(() => stage.map().generation > generation);
    assert.ok((await listed(stage)).janitor, 'a node has attached it');
    assert.ok(await next.serve(false), 'it does not have to say that it takes it over');
    stage.cluster.holder = next;
    assert.not((await listed(stage)).janitor);
    await stage.wrote(next, 2);
    await stage.boot(second);
    await stage.becomes(second, 'in-sync');
    const attached = stage.map().generation;
    await stage.pause(3 * JANITOR_MS);
    assert.is(stage.map().generation, attached, 'the janitor has given it up');
    assert.ok(next.serves);
  });
});

check('whoever attaches the volume on the node that is just attending to it keeps it', async () => {
  await play(async (stage) => {
    const [client] = stage.clients;
    const { id } = stage.cluster.volume;
    await stage.wrote(client, 0);
    stage.kill(client);
    const { generation } = stage.map();
    await stage.until(() => stage.map().generation > generation);
    const janitor = stage.nodes.find(({ program }) => program.node.volumes.get(id));
    assert.ok(janitor !== undefined);
    const { node } = janitor.program;
    // The node has not made the copies equal yet, and gives the volume back as soon as that is done.
    const attached = stage.world.settle(node.attachVolume(id));
    const volume = await attached;
    await stage.pause(2 * JANITOR_MS);
    assert.ok(volume.engine?.serving, 'it is served still');
    assert.is(stage.map().lease, 'exclusive');
    assert.not((await listed(stage)).janitor);
    await stage.world.settle(node.detachVolume(id));
    await attended(stage);
    await demandEqual(stage);
  });
});

check('the node that is asked dies: another one is asked', async () => {
  await play(
    async (stage) => {
      const [client] = stage.clients;
      await stage.wrote(client, 0);
      stage.kill(client);
      const { generation } = stage.map();
      await stage.until(() => stage.map().generation > generation);
      const janitor = stage.nodes.find(({ program }) => program.node.volumes.get(stage.cluster.volume.id));
      assert.ok(janitor !== undefined);
      stage.kill(janitor);
      await stage.until(() => stage.map().lease === 'released');
      assert.is(stage.stateOf(janitor), 'offline');
      await stage.boot(janitor);
      await attended(stage);
      await demandEqual(stage);
    },
    { copies: 3, nodes: 3 },
  );
});

check('the manager dies while a node attends to the volume: it is given back all the same', async () => {
  await play(async (stage) => {
    const [client] = stage.clients;
    const { manager } = stage.cluster;
    await stage.wrote(client, 0);
    stage.kill(client);
    const { generation } = stage.map();
    await stage.until(() => stage.map().generation > generation);
    stage.kill(manager);
    await stage.pause(2000);
    await stage.boot(manager);
    await attended(stage);
    await demandEqual(stage);
  });
});

check('a holder that the manager does not hear is left alone as long as nodes hear it', async () => {
  await play(async (stage) => {
    const [client, next] = stage.clients;
    const { manager } = stage.cluster;
    const { generation } = stage.map();
    const mend = stage.part(client, manager);
    for (let round = 0; round < 6; round += 1) {
      await stage.pause(JANITOR_MS);
      await stage.wrote(client, round);
    }
    assert.is(stage.map().generation, generation);
    stage.kill(client);
    mend();
    await attended(stage);
    assert.ok(stage.map().generation > generation, 'it is not heard by anybody now');
    assert.ok(await stage.world.settle(next.serve(false)));
    stage.cluster.holder = next;
  });
});

check('a janitor that nobody wants is refused', async () => {
  await play(async (stage) => {
    const { manager } = stage.cluster.manager.program;
    const call = { volume: 'volume', clientId: 'b'.repeat(32), takeOver: false, janitor: true };
    const refused = await stage.world.settle(manager.attach(call).catch((error: StrakeError) => error));
    assert.is((refused as StrakeError).code, 'ERR_STRAKE_VOLUME_BUSY');
  });
});

run();
