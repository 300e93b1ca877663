/** Sequences in which members, holders and managers die while maps are decided, or are on their way: on whole clusters. */

import * as assert from 'uvu/assert';
import { REQUEST_WRITE } from '#strake/ports/segment-request.js';
import type { ClusterNode } from '#strake/sim/cluster/cluster-node.js';
import { computeLayout } from '#strake/store/format/format.js';
import { check, run } from '../support/check.js';
import { isRequest, isStoreMap } from '../support/cluster-messages.js';
import { Stage } from '../support/cluster-stage.js';

const THREE = { copies: 3, nodes: 3 } as const;
const isWrite = isRequest(REQUEST_WRITE);

/** A node dies, is out, misses a write, and starts again. */
async function comeBack(stage: Stage, node: ClusterNode): Promise<void> {
  stage.kill(node);
  await stage.becomes(node, 'offline');
  await stage.wrote(stage.cluster.holder, 0);
  await stage.boot(node);
}

check('a group goes on when a member dies that a take-in waits for (dead-member-in-pending)', async () => {
  await Stage.play(THREE, async (stage) => {
    const [client] = stage.clients;
    const [dying, other, target] = stage.nodes;
    await stage.wrote(client, 0);
    stage.kill(target);
    await stage.becomes(target, 'offline');
    const maps = stage.hold(client, dying, isStoreMap);
    await stage.boot(target);
    await stage.caught(maps);
    assert.is(stage.stateOf(target), 'syncing');
    stage.kill(dying);
    const write = await stage.wrote(client, 0);
    await stage.becomes(dying, 'offline');
    await stage.becomes(target, 'in-sync');
    assert.is(stage.stateOf(other), 'in-sync');
    assert.is(await stage.read(client, 0), write.value);
  });
});

check('a group goes on when a member dies that a promotion waits for (dead-member-in-pending)', async () => {
  await Stage.play(THREE, async (stage) => {
    const [client] = stage.clients;
    const [dying, other, target] = stage.nodes;
    await stage.wrote(client, 0);
    await comeBack(stage, target);
    await stage.becomes(target, 'syncing');
    const maps = stage.hold(client, dying, isStoreMap);
    await stage.caught(maps);
    assert.is(stage.stateOf(target), 'in-sync');
    stage.kill(dying);
    const write = await stage.wrote(client, 0);
    await stage.becomes(dying, 'offline');
    assert.equal([stage.stateOf(other), stage.stateOf(target)], ['in-sync', 'in-sync']);
    assert.is(await stage.read(client, 0), write.value);
  });
});

check('an attach goes on when a member dies that it waits for (dead-member-in-pending)', async () => {
  await Stage.play(THREE, async (stage) => {
    const [client, next] = stage.clients;
    const [dying] = stage.nodes;
    const before = await stage.wrote(client, 0);
    const maps = stage.hold(next, dying, isStoreMap);
    const served = next.serve(true);
    await stage.caught(maps);
    stage.kill(dying);
    assert.ok(await served, 'the next client gets the volume');
    stage.cluster.holder = next;
    await stage.becomes(dying, 'offline');
    assert.is(await stage.read(next, 0), before.value);
    await stage.wrote(next, 0);
  });
});

check('a volume can be attached whatever is pending', async () => {
  await Stage.play(THREE, async (stage) => {
    const [client, next] = stage.clients;
    const [slow, , target] = stage.nodes;
    const before = await stage.wrote(client, 0);
    await comeBack(stage, target);
    const maps = stage.hold(client, slow, isStoreMap);
    await stage.caught(maps);
    assert.not(stage.isEffective());
    assert.ok(await next.serve(true), 'the next client gets the volume');
    stage.cluster.holder = next;
    maps.release();
    assert.is.not(await stage.read(next, 0), before.value);
    await stage.becomes(target, 'in-sync');
  });
});

check('nobody leaves who alone is in the last map that has taken effect', async () => {
  await Stage.play({}, async (stage) => {
    const [client] = stage.clients;
    const [only, target] = stage.nodes;
    await stage.wrote(client, 0);
    await comeBack(stage, target);
    await stage.becomes(target, 'syncing');
    // The promotion is decided, and the one that has everything dies before it hears of that.
    const maps = stage.hold(client, only, isStoreMap);
    await stage.caught(maps);
    assert.is(stage.stateOf(target), 'in-sync');
    stage.kill(only);
    const write = stage.write(client, 0);
    await stage.pause(5_000);
    assert.is(stage.stateOf(only), 'in-sync', 'somebody leaves, and no member is left that the map before has');
    assert.is(write.result, undefined);
    await stage.boot(only);
    await stage.pause(10_000);
  });
});

check('what a manager has decided is not effective because it starts anew', async () => {
  await Stage.play(THREE, async (stage) => {
    const { cluster } = stage;
    const [client] = stage.clients;
    const [slow, other, dying] = stage.nodes;
    await stage.wrote(client, 0);
    // A removal that one member has not heard of, whoever tells it.
    stage.hold(client, slow, isStoreMap);
    const mend = stage.part(cluster.manager, slow);
    stage.kill(dying);
    await stage.until(() => stage.stateOf(dying) === 'offline');
    stage.kill(cluster.manager);
    await stage.boot(cluster.manager);
    await stage.pause(500);
    stage.kill(slow);
    await stage.until(() => stage.stateOf(slow) === 'offline');
    await stage.wrote(client, 0);
    assert.is(stage.stateOf(other), 'in-sync');
    mend();
  });
});

check('a map is answered when what was admitted before it has ended', async () => {
  // At whatever step of the next attach the write ends.
  for (let lateMs = 7; lateMs <= 13; lateMs += 1) {
    await Stage.play({}, async (stage) => {
      const { cluster } = stage;
      const [client, next] = stage.clients;
      const [slow, other] = stage.nodes;
      const before = await stage.wrote(client, 0);
      // One member has taken a write, and its device is slow; the other one never gets it.
      const { disk } = slow.disks[0];
      const start = computeLayout(disk.geometry.sizeBytes, stage.world.plan.segmentBytes).dataOffset;
      const mend = disk.faults.add({ ops: ['write'], start, action: { kind: 'slow', byUs: 1000 * lateMs } });
      const writes = stage.hold(client, other, isWrite);
      const write = stage.write(client, 0);
      await stage.caught(writes);
      await stage.pause(5);
      mend();
      stage.kill(client);
      assert.ok(await next.serve(true));
      cluster.holder = next;
      writes.release();
      await stage.pause(50);
      for (let turn = 0; turn < 4; turn += 1) assert.is(await stage.read(next, 0), write.value);
      assert.is.not(write.value, before.value);
    });
  }
});

check(
  'the last member of a pending map dies: the one before is brought back by name (last-in-pending-dies)',
  async () => {
    await Stage.play({}, async (stage) => {
      const { cluster } = stage;
      const { manager } = cluster.manager.program;
      const [client, next] = stage.clients;
      const [slow, dying] = stage.nodes;
      const before = await stage.wrote(client, 0);
      assert.is(await stage.flush(client), 0);
      const maps = stage.hold(client, dying, isStoreMap);
      const mend = stage.part(client, slow);
      await stage.caught(maps);
      assert.equal([stage.stateOf(slow), stage.stateOf(dying)], ['offline', 'in-sync']);
      stage.kill(dying);
      stage.kill(client);
      mend();
      assert.not(await next.serve(true), 'a volume is served by whom its newest map has left out');
      // It has not been heard for long enough.
      await stage.pause(3_000);
      const [{ deviceId }] = dying.disks;
      const { lost } = await stage.world.settle(manager.startWithout(cluster.volume.name, [deviceId]));
      assert.is(lost.length, 1);
      assert.match(lost[0].what, new RegExp(`${slow.disks[0].deviceId} may have missed it`));
      assert.ok(await next.serve(true), 'the volume is served again');
      cluster.holder = next;
      assert.is(await stage.read(next, 0), before.value);
      await stage.wrote(next, 0);
      assert.equal([stage.stateOf(slow), stage.stateOf(dying)], ['in-sync', 'offline']);
    });
  },
);

check('a node that starts again and again within a lease leaves, and nobody waits for it (restart-loop)', async () => {
  await Stage.play({}, async (stage) => {
    const [client] = stage.clients;
    const [, looping] = stage.nodes;
    await stage.wrote(client, 0);
    let worstUs = 0;
    for (let life = 0; life < 8; life += 1) {
      stage.kill(looping);
      for (let write = 0; write < 4; write += 1) {
        const beganUs = stage.world.nowUs;
        await stage.wrote(client, write);
        worstUs = Math.max(worstUs, stage.world.nowUs - beganUs);
        await stage.pause(50);
      }
      assert.is(stage.stateOf(looping), 'offline');
      await stage.boot(looping);
      await stage.pause(100);
    }
    assert.ok(worstUs < 500_000, `a write waits for ${worstUs / 1000} ms`);
    await stage.becomes(looping, 'in-sync');
  });
});

run();
