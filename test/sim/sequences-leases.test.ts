/** Sequences on which leases for reads have to hold, played on whole clusters in the simulator. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { anything, isPong, isStoreMap } from '../support/cluster-messages.js';
import { Stage } from '../support/cluster-stage.js';

/** Between two reads of a client that asks again and again. */
const READ_EVERY_MS = 20;
/** Longer than a lease. */
const BEYOND_MS = 3_000;

/**
 * The first client goes on to reach the second node alone, which hears of nothing, while the next one takes the volume over with
 * the first node alone. `between` is called before the next client attaches, when the first has leases from both. The first one
 * reads all the time, or, if it is `quiet`, from then on that the next one has written.
 */
async function cutOffReader(stage: Stage, between: () => Promise<void>, quiet = false): Promise<void> {
  const { cluster, world } = stage;
  const [first, second] = stage.nodes;
  const [old, next] = stage.clients;
  const before = await stage.wrote(old, 0);
  assert.is(await stage.flush(old), 0);
  assert.is(await stage.read(old, 0), before.value);
  stage.part(old, cluster.manager);
  stage.part(second, cluster.manager);
  stage.refuse(next, second);
  await between();
  const answers: number[] = [];
  let asking = true;
  const ask = async () => {
    while (asking) {
      // Any of them may go to either node.
      for (let count = 0; count < 3; count += 1) void stage.read(old, 0).then((value) => answers.push(value));
      await stage.pause(READ_EVERY_MS);
    }
  };
  if (!quiet) void ask();
  assert.ok(await next.serve(true), 'the next client gets the volume');
  cluster.holder = next;
  assert.equal([stage.stateOf(first), stage.stateOf(second)], ['in-sync', 'offline']);
  const after = await stage.wrote(next, 0);
  const read = answers.filter((value) => value === before.value).length;
  if (quiet) void ask();
  await stage.pause(BEYOND_MS);
  asking = false;
  assert.is(await stage.read(next, 0), after.value);
  // The oracle judges each answer; this one tells how it came.
  assert.not(answers.includes(after.value), 'the first client reads what it cannot know');
  world.log(`${read} reads of the first client were answered before the next one wrote`);
}

check('a client that reaches one member alone reads nothing that another has replaced', async () => {
  await Stage.play({}, async (stage) => {
    const [old] = stage.clients;
    await cutOffReader(stage, async () => void stage.part(old, stage.nodes[0]));
  });
});

check(
  'a node that sees a connection end waits for the lease that it has given on it (lease-outlives-connection)',
  [],
  async () => {
    // Which member is asked first goes by turns.
    for (const reads of [0, 1]) {
      await Stage.play({}, async (stage) => {
        const [old] = stage.clients;
        const [first] = stage.nodes;
        const between = async () => {
          // Nothing is sent for a while by which the client would learn of the end.
          const pongs = stage.hold(first, old, isPong, 1);
          await stage.caught(pongs);
          pongs.release();
          for (let read = 0; read < reads; read += 1) await stage.read(old, 0);
          await stage.pause(1);
          stage.world.inner.resetAt(first.host, old.host);
        };
        await cutOffReader(stage, between, true);
      });
    }
  },
);

check('a client counts its lease from its question, however late the answer is', async () => {
  await Stage.play({}, async (stage) => {
    const [old] = stage.clients;
    const [first] = stage.nodes;
    await cutOffReader(stage, async () => {
      const pongs = stage.hold(first, old, isPong, 1);
      await stage.caught(pongs);
      stage.hold(first, old, anything);
      old.process.stall(1_900_000);
      pongs.release();
    });
  });
});

check('a client that stood still reads nothing by what its clock had said before (pause-inside-a-batch)', async () => {
  for (const completions of [1, 2, 3]) {
    await Stage.play({}, async (stage) => {
      const [old] = stage.clients;
      await cutOffReader(stage, async () => {
        stage.part(old, stage.nodes[0]);
        old.process.stallWithin(completions, 2_500_000);
      });
    });
  }
});

check('a guest that was frozen with its clocks has no leases when it goes on', async () => {
  await Stage.play({}, async (stage) => {
    const [old] = stage.clients;
    await cutOffReader(stage, async () => {
      stage.part(old, stage.nodes[0]);
      old.process.stall(2_500_000);
      old.host.clock.freeze(2_500_000);
    });
  });
});

check('a node whose power failed answers no map while leases go on that it has forgotten', async () => {
  await Stage.play({}, async (stage) => {
    const [old] = stage.clients;
    const [first] = stage.nodes;
    await cutOffReader(stage, async () => {
      stage.cut(old, first);
      stage.losePower(first);
      await stage.boot(first);
    });
  });
});

check('an attach waits for nobody that can still be heard by some members (half-cut-engine)', async () => {
  await Stage.play({}, async (stage) => {
    const { cluster } = stage;
    const [old, next] = stage.clients;
    const [first, second] = stage.nodes;
    const before = await stage.wrote(old, 0);
    stage.part(old, second);
    stage.part(old, cluster.manager);
    const late = stage.write(old, 1);
    const beganUs = stage.world.nowUs;
    assert.ok(await next.serve(true), 'the next client gets the volume');
    cluster.holder = next;
    // The old one has leases for two seconds, of both.
    assert.ok(stage.world.nowUs - beganUs < 500_000, 'an attach waits for a lease');
    assert.equal([stage.stateOf(first), stage.stateOf(second)], ['in-sync', 'in-sync']);
    assert.is(await stage.read(next, 0), before.value);
    const after = await stage.wrote(next, 0);
    assert.is.not(await late.ended, 0, 'what the old one could not write everywhere is acknowledged');
    assert.is(await stage.read(next, 0), after.value);
  });
});

check('an answer that a map has overtaken grants no lease under that map (pong-overtakes-map)', async () => {
  await Stage.play({ copies: 3, nodes: 3 }, async (stage) => {
    const [client] = stage.clients;
    const [first, , away] = stage.nodes;
    const before = await stage.wrote(client, 0);
    stage.kill(away);
    await stage.becomes(away, 'offline');
    // A map that takes the third in waits, until the first has answered a ping under the one before.
    const maps = stage.hold(client, first, isStoreMap, 1);
    await stage.boot(away);
    await stage.caught(maps);
    const early = stage.hold(first, client, isPong, 1);
    await stage.caught(early);
    const later = stage.hold(first, client, isPong);
    maps.release();
    await stage.until(() => stage.isEffective());
    await stage.pause(5);
    assert.is(stage.stateOf(away), 'syncing');
    let value: number | undefined;
    const read = stage.read(client, 0).then((found) => {
      value = found;
    });
    early.release();
    await stage.caught(later);
    await stage.pause(20);
    assert.is(value, undefined, 'a lease counts under a map that came after its question');
    later.release();
    await read;
    assert.is(value, before.value);
  });
});

run();
