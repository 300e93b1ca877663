/** Sequences in which a client parts with members while it waits for them: on whole clusters. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { isStoreMap } from '../support/cluster-messages.js';
import { Stage } from '../support/cluster-stage.js';

/** In which whoever is reached again is used again, in milliseconds: less than the time for which requests are held. */
const SOON_MS = 20_000;

check('an attach reaches members again with which its client has parted, though they stay in the map', async () => {
  await Stage.play({ copies: 3, nodes: 3 }, async (stage) => {
    const [client, next] = stage.clients;
    const [, ...others] = stage.nodes;
    const before = await stage.wrote(client, 0);
    const maps = others.map((node) => stage.hold(next, node, isStoreMap));
    stage.kill(client);
    const attached = next.serve(true);
    for (const hold of maps) await stage.caught(hold);
    const mends = others.map((node) => stage.part(next, node));
    const gone = () => stage.told.filter((text) => text.includes(`${next.name}: event: device-failed`)).length;
    await stage.until(() => gone() >= others.length);
    // The manager hears both nodes, and does not believe that both are gone.
    for (const mend of mends) mend();
    for (const hold of maps) hold.release();
    const beganUs = stage.world.nowUs;
    assert.ok(await stage.world.settle(attached), 'the next client does not get the volume');
    assert.ok(stage.world.nowUs - beganUs < 1000 * SOON_MS, 'members are not reached while an attach waits for them');
    stage.cluster.holder = next;
    assert.is(await stage.read(next, 0), before.value);
  });
});

check('a volume that is being closed does not wait for its last copy when that is gone', async () => {
  await Stage.play({}, async (stage) => {
    const [client] = stage.clients;
    const [dying, last] = stage.nodes;
    stage.kill(dying);
    await stage.becomes(dying, 'offline');
    const write = await stage.wrote(client, 0);
    last.process.stall(1000 * SOON_MS);
    const beganUs = stage.world.nowUs;
    await client.giveBack();
    assert.ok(stage.world.nowUs - beganUs < 1000 * SOON_MS, 'it waits for a device that nobody gives back to it');
    assert.ok(stage.told.some((text) => text.includes('could not be flushed when it was closed')));
    await stage.until(() => !last.process.stalled);
    assert.ok(await client.serve(true));
    assert.is(await stage.read(client, 0), write.value);
  });
});

run();
