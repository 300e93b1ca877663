/** Sequences in which a client attaches a volume that another one serves, and does not come to serve it: on whole clusters. */

import * as assert from 'uvu/assert';
import { REQUEST_AGREED, REQUEST_WRITE } from '#strake/ports/segment-request.js';
import type { MessageHold, SimMessage } from '#strake/sim/net/message-gate.js';
import { check, run } from '../support/check.js';
import { isCall, isRequest, isStoreMap } from '../support/cluster-messages.js';
import { Stage } from '../support/cluster-stage.js';

const isWrite = isRequest(REQUEST_WRITE);

/** The next client attaches, and dies when a message of its waits on its way to some nodes. */
async function candidateDies(
  stage: Stage,
  which: (message: SimMessage) => boolean,
  nodes: readonly number[],
): Promise<void> {
  const [, next] = stage.clients;
  const holds: MessageHold[] = nodes.map((at) => stage.hold(next, stage.nodes[at], which));
  void next.serve(true);
  for (const hold of holds) await stage.caught(hold);
  await stage.pause(10);
  stage.kill(next);
}

check('whoever serves a volume goes on when a candidate goes away, and loses nothing (failed-attach)', async () => {
  const ends = [
    // Nobody has heard of the candidate; one member has; all have, and none that copies agree.
    [isStoreMap, [0, 1]],
    [isStoreMap, [1]],
    [isRequest(REQUEST_AGREED), [0, 1]],
  ] as const;
  for (const [which, nodes] of ends) {
    await Stage.play({}, async (stage) => {
      const [client] = stage.clients;
      const before = await stage.wrote(client, 0);
      const late = stage.hold(client, stage.nodes[1], isWrite, 1);
      const held = stage.write(client, 1);
      await stage.caught(late);
      await candidateDies(stage, which, nodes);
      const write = stage.write(client, 2);
      late.release();
      assert.is(await held.ended, 0, 'a write that was under way is lost');
      assert.is(await write.ended, 0, 'a write that came meanwhile is lost');
      assert.ok(client.serves, 'whoever served the volume does so no more');
      assert.is(await stage.read(client, 0), before.value);
      assert.is(await stage.read(client, 1), held.value);
      assert.is(await stage.read(client, 2), write.value);
    });
  }
});

check(
  'a write that was held is never written when another generation was served meanwhile (failed-attach)',
  async () => {
    for (const lands of [0, 1]) {
      await Stage.play({}, async (stage) => {
        const { cluster } = stage;
        const [client, next] = stage.clients;
        await stage.wrote(client, 0);
        // Nobody but the members knows that the next client has served.
        stage.hold(next, cluster.manager, isCall('renew'));
        const mends = [cluster.manager, ...stage.nodes].map((party) => stage.part(client, party));
        mends[1 + lands]();
        const held = stage.write(client, 0);
        await stage.pause(10);
        mends[1 + lands] = stage.part(client, stage.nodes[lands]);
        assert.ok(await next.serve(true), 'the next client gets the volume');
        cluster.holder = next;
        const after = await stage.wrote(next, 0);
        stage.kill(next);
        for (const mend of mends) mend();
        cluster.holder = client;
        assert.is.not(await held.ended, 0, 'a write is acknowledged that another generation has overwritten');
        await stage.pause(20_000);
        if (!client.serves) assert.ok(await client.serve(true));
        assert.is(await stage.read(client, 0), after.value);
      });
    }
  },
);

run();
