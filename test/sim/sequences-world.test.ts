/** Sequences that the model of the protocol leaves out: power, clocks, lives of devices, groups, and flushes: on whole clusters. */

import * as assert from 'uvu/assert';
import { REQUEST_WRITE } from '#strake/ports/segment-request.js';
import { check, run } from '../support/check.js';
import { isRequest } from '../support/cluster-messages.js';
import { Stage } from '../support/cluster-stage.js';

const isWrite = isRequest(REQUEST_WRITE);
const DAY_MS = 86_400_000;

check('what was flushed outlives the power of all members, and a flush tells what may be lost', async () => {
  await Stage.play({}, async (stage) => {
    const [client] = stage.clients;
    const flushed = await stage.wrote(client, 0);
    assert.is(await stage.flush(client), 0);
    const unflushed = await stage.wrote(client, 1);
    for (const node of stage.nodes) stage.losePower(node);
    for (const node of stage.nodes) await stage.boot(node);
    assert.is(await stage.read(client, 0), flushed.value);
    const value = await stage.read(client, 1);
    assert.ok(value === unflushed.value || value === 0, 'a block holds what nobody wrote');
    assert.is.not(await stage.flush(client), 0, 'a flush says nothing of what all members may have lost');
    assert.is(await stage.flush(client), 0, 'a flush tells twice of what was lost once');
    await stage.wrote(client, 2);
    assert.is(await stage.flush(client), 0);
  });
});

check(
  'a member that is opened anew within the time of silence has failed before anything is acknowledged',
  async () => {
    for (const isPower of [false, true]) {
      await Stage.play({}, async (stage) => {
        const [client] = stage.clients;
        const [first, second] = stage.nodes;
        const before = await stage.wrote(client, 0);
        if (isPower) stage.losePower(second);
        else stage.kill(second);
        await stage.boot(second);
        const write = await stage.wrote(client, 1);
        assert.is(await stage.flush(client), 0);
        assert.is(stage.stateOf(second), 'offline', 'a member is in-sync that may have lost something');
        await stage.becomes(second, 'in-sync');
        stage.kill(first);
        await stage.becomes(first, 'offline');
        assert.is(await stage.read(client, 0), before.value);
        assert.is(await stage.read(client, 1), write.value);
      });
    }
  },
);

check('what one member alone has when its writer dies is decided about, whatever was flushed behind it', async () => {
  for (const lands of [0, 1]) {
    await Stage.play({}, async (stage) => {
      const { cluster } = stage;
      const [client, next] = stage.clients;
      await stage.wrote(client, 0);
      assert.is(await stage.flush(client), 0);
      // It is under way while others are written and flushed.
      const late = stage.hold(client, stage.nodes[1 - lands], isWrite, 1);
      const write = stage.write(client, 0);
      await stage.caught(late);
      const flush = stage.flush(client);
      await stage.pause(50);
      stage.kill(client);
      await flush;
      assert.ok(await next.serve(true));
      cluster.holder = next;
      late.release();
      await stage.pause(50);
      for (let turn = 0; turn < 4; turn += 1) assert.is(await stage.read(next, 0), write.value);
      assert.is(await stage.flush(next), 0);
    });
  }
});

check('a member that leaves one group leaves the others as they are', async () => {
  await Stage.play({ devices: 2 }, async (stage) => {
    const [client] = stage.clients;
    const { members } = stage.map(1);
    assert.is(stage.cluster.maps.newest().length, 2, 'the volume has two groups');
    const blocks = [0, 16, 32, 48];
    for (const block of blocks) await stage.wrote(client, block);
    const versions = stage.cluster.maps.newest().map(({ mapVersion }) => mapVersion);
    // A device of the second group is gone.
    const [, second] = stage.nodes;
    const gone = second.disks.find(({ deviceId }) => deviceId === members[1].deviceId);
    assert.ok(gone !== undefined);
    const mend = gone.disk.faults.add({ action: { kind: 'error', errno: 5 } });
    for (const block of blocks) await stage.wrote(client, block);
    mend();
    const [one, other] = stage.cluster.maps.newest();
    assert.is(one.mapVersion, versions[0], 'a group has another map because of a device that it has not');
    assert.ok(other.mapVersion > versions[1]);
    assert.equal(
      other.members.map(({ state }) => state),
      ['in-sync', 'offline'],
    );
    stage.kill(second);
    for (const block of blocks) await stage.wrote(client, block);
    await stage.boot(second);
    await stage.until(() =>
      stage.cluster.maps.newest().every(({ members: all }) => all.every(({ state }) => state === 'in-sync')),
    );
  });
});

check('clocks that are wrong by a day, at any process, lose nothing and nobody', async () => {
  await Stage.play({}, async (stage) => {
    const { cluster } = stage;
    const [client] = stage.clients;
    const versions = stage.map().mapVersion;
    let value = 0;
    for (const party of [cluster.manager, ...stage.nodes, client]) {
      for (const byMs of [DAY_MS, -DAY_MS]) {
        party.host.clock.setRealtime(byMs);
        for (let turn = 0; turn < 5; turn += 1) {
          ({ value } = await stage.wrote(client, 0));
          assert.is(await stage.read(client, 0), value);
          await stage.pause(300);
        }
      }
    }
    assert.is(stage.map().mapVersion, versions, 'somebody left because of a clock');
    const [, next] = stage.clients;
    next.host.clock.setRealtime(DAY_MS);
    assert.ok(await next.serve(true));
    cluster.holder = next;
    assert.is(await stage.read(next, 0), value);
  });
});

run();
