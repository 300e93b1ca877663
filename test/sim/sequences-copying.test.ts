/** Sequences in which a member is brought up to date, or writes are under way, while maps change: on whole clusters. */

import * as assert from 'uvu/assert';
import { REQUEST_ALLOCATE, REQUEST_READ, REQUEST_RELEASE, REQUEST_WRITE } from '#strake/ports/segment-request.js';
import type { ClusterClient } from '#strake/sim/cluster/cluster-client.js';
import type { ClusterNode } from '#strake/sim/cluster/cluster-node.js';
import { check, run } from '../support/check.js';
import { isCall, isRequest, isStoreMap } from '../support/cluster-messages.js';
import { Stage } from '../support/cluster-stage.js';

const isWrite = isRequest(REQUEST_WRITE);
const THREE = { copies: 3, nodes: 3 } as const;
const SEGMENT_BLOCKS = 16;

/** What is read of a block when every node but one has died. */
async function readFrom(stage: Stage, node: ClusterNode, block: number): Promise<number> {
  for (const other of stage.nodes) {
    if (other === node || !other.up) continue;
    stage.kill(other);
    await stage.becomes(other, 'offline');
  }
  return stage.read(stage.cluster.holder, block);
}

/** A node dies, is out, and misses a write. */
async function leave(stage: Stage, node: ClusterNode, block: number): Promise<number> {
  stage.kill(node);
  await stage.becomes(node, 'offline');
  const { value } = await stage.wrote(stage.cluster.holder, block);
  return value;
}

check('a copy from a source that lags does not replace a write that is acknowledged (lagging-source)', async () => {
  await Stage.play(THREE, async (stage) => {
    const [client] = stage.clients;
    const [source, , target] = stage.nodes;
    await stage.wrote(client, 0);
    await leave(stage, target, 0);
    // The job reads the block at the source. What is written now comes there behind that.
    const reads = stage.hold(client, source, isRequest(REQUEST_READ), 1);
    await stage.boot(target);
    await stage.caught(reads);
    assert.is(stage.stateOf(target), 'syncing');
    const write = stage.write(client, 0);
    await stage.pause(100);
    reads.release();
    assert.is(await write.ended, 0);
    await stage.becomes(target, 'in-sync');
    assert.is(await readFrom(stage, target, 0), write.value);
  });
});

check('a write that is under way when a member is taken in comes to it (piece-crosses-take-in)', async () => {
  for (const lagging of [0, 1]) {
    await Stage.play(THREE, async (stage) => {
      const [client] = stage.clients;
      const target = stage.nodes[2];
      const late = stage.nodes[lagging];
      const other = stage.nodes[1 - lagging];
      await stage.wrote(client, 0);
      await leave(stage, target, 1);
      // The write is begun when the map that takes the target in is decided, and not in effect.
      const maps = stage.hold(client, other, isStoreMap, 1);
      await stage.boot(target);
      await stage.caught(maps);
      assert.is(stage.stateOf(target), 'syncing');
      const writes = stage.hold(client, late, isWrite, 1);
      const write = stage.write(client, 0);
      await stage.caught(writes);
      maps.release();
      await stage.until(() => stage.isEffective());
      await stage.pause(300);
      assert.is(write.result, undefined, 'a write is acknowledged that a member has not seen');
      writes.release();
      assert.is(await write.ended, 0);
      await stage.becomes(target, 'in-sync');
      assert.is(await readFrom(stage, target, 0), write.value);
    });
  }
});

check('a write of every moment while a member is brought up to date is on it in the end', async () => {
  await Stage.play({ ...THREE, segments: 8 }, async (stage) => {
    const [client] = stage.clients;
    const target = stage.nodes[2];
    const blocks = Array.from({ length: 24 }, (_, at) => 5 * at);
    for (const block of blocks) await stage.wrote(client, block);
    await leave(stage, target, 0);
    for (const block of blocks) await stage.wrote(client, block);
    await stage.boot(target);
    const values = new Map<number, number>();
    for (let turn = 0; stage.stateOf(target) !== 'in-sync'; turn += 1) {
      const { block, value } = await stage.wrote(client, blocks[turn % blocks.length]);
      values.set(block, value);
    }
    assert.ok(values.size > 2, 'something is written meanwhile');
    for (const [block, value] of values) assert.is(await readFrom(stage, target, block), value);
  });
});

/**
 * The target has been brought up to date, and the call that asks for its promotion waits. What the writer writes then reaches
 * some nodes alone before its end.
 */
async function writerEnds(stage: Stage, lands: readonly number[], end: (client: ClusterClient) => void) {
  const { cluster } = stage;
  const [client, next] = stage.clients;
  const target = stage.nodes[2];
  const before = await stage.wrote(client, 0);
  await leave(stage, target, 1);
  await stage.boot(target);
  await stage.until(() => stage.stateOf(target) === 'syncing');
  const promotion = stage.hold(client, cluster.manager, isCall('change'));
  await stage.caught(promotion);
  const late = stage.nodes.filter((_, at) => !lands.includes(at)).map((node) => stage.hold(client, node, isWrite));
  const write = stage.write(client, 0);
  for (const hold of late) await stage.caught(hold);
  await stage.pause(20);
  end(client);
  return { before, write, target, next, promotion, late };
}

check('a member is compared again when another writer has decided about a write (job-and-new-writer)', async () => {
  for (const lands of [[0], [1], [2]]) {
    await Stage.play(THREE, async (stage) => {
      const { before, write, target, next, late } = await writerEnds(stage, lands, (client) => stage.kill(client));
      assert.ok(await next.serve(true));
      stage.cluster.holder = next;
      for (const hold of late) hold.release();
      // Who was being brought up to date says nothing: what is there alone was acknowledged by nobody.
      const { value } = lands[0] === 2 ? before : write;
      assert.is(await stage.read(next, 0), value);
      await stage.becomes(target, 'in-sync');
      assert.is(await readFrom(stage, target, 0), value);
    });
  }
});

check('a promotion that was asked for under an earlier generation is refused (late-consent)', async () => {
  await Stage.play(THREE, async (stage) => {
    // Who stands still takes nothing back of what it has sent.
    const { before, target, next, promotion, late } = await writerEnds(stage, [2], ({ process }) =>
      process.stall(3_000_000),
    );
    // The next writer has been given the volume, and nobody has heard of it.
    const maps = stage.hold(next, null, isStoreMap);
    const served = next.serve(true);
    await stage.caught(maps);
    assert.is(stage.map().generation, 2);
    promotion.release();
    await stage.pause(100);
    assert.is(stage.stateOf(target), 'syncing', 'a promotion counts that the writer before has asked for');
    maps.release();
    assert.ok(await served);
    stage.cluster.holder = next;
    for (const hold of late) hold.release();
    assert.is(await stage.read(next, 0), before.value);
    await stage.becomes(target, 'in-sync');
    assert.is(await readFrom(stage, target, 0), before.value);
  });
});

check('a write that was answered with EIO is sent on until its member has it (eio-keeps-the-piece)', async () => {
  await Stage.play({}, async (stage) => {
    const { cluster } = stage;
    const [client] = stage.clients;
    const [, late] = stage.nodes;
    await stage.wrote(client, 0);
    await stage.world.settle(cluster.manager.program.manager.setTimes({ holdMs: 5_000 }));
    // Its clients hear of that by their next call.
    await stage.pause(1_000);
    stage.kill(cluster.manager);
    const mend = stage.part(client, late);
    const write = stage.write(client, 0);
    assert.is.not(await write.ended, 0, 'a write is acknowledged that a member in-sync has not');
    // Without a manager nobody leaves: the member comes back as it was, and gets what has been lost on the way to it.
    stage.reset(client, late);
    mend();
    // What it has not is sent before anything else is acknowledged: whichever is asked.
    assert.is(await stage.flush(client), 0);
    for (let turn = 0; turn < 6; turn += 1) assert.is(await stage.read(client, 0), write.value);
    await stage.boot(cluster.manager);
    // It was asked to take the member out, which may still happen; then it comes back.
    await stage.pause(10_000);
    await stage.becomes(late, 'in-sync');
    assert.is(await readFrom(stage, late, 0), write.value);
  });
});

check('a job gives back nothing that is being written meanwhile (release-by-job)', async () => {
  await Stage.play({}, async (stage) => {
    const { cluster } = stage;
    const [client, next] = stage.clients;
    const [source, target] = stage.nodes;
    await stage.wrote(client, 0);
    // The second segment is allocated at the target alone, as the writer dies.
    const allocations = stage.hold(client, source, isRequest(REQUEST_ALLOCATE));
    const lost = stage.write(client, SEGMENT_BLOCKS);
    await stage.caught(allocations);
    await stage.pause(20);
    stage.kill(client);
    const accept = stage.refuse(next, target);
    assert.ok(await next.serve(true));
    cluster.holder = next;
    allocations.release();
    assert.is.not(lost.result, 0);
    assert.is(stage.stateOf(target), 'offline');
    const releases = stage.hold(next, target, isRequest(REQUEST_RELEASE));
    accept();
    await stage.caught(releases);
    const write = stage.write(next, SEGMENT_BLOCKS);
    await stage.pause(100);
    releases.release();
    assert.is(await write.ended, 0);
    await stage.becomes(target, 'in-sync');
    assert.is(await readFrom(stage, target, SEGMENT_BLOCKS), write.value);
  });
});

check('what was discarded while a member was away does not come back with it (release-by-job)', async () => {
  await Stage.play({}, async (stage) => {
    const [client] = stage.clients;
    const [, target] = stage.nodes;
    await stage.wrote(client, SEGMENT_BLOCKS);
    await stage.wrote(client, 0);
    assert.is(await stage.flush(client), 0);
    await leave(stage, target, 0);
    assert.is(await stage.trim(client, SEGMENT_BLOCKS, SEGMENT_BLOCKS).ended, 0);
    assert.is(await stage.flush(client), 0);
    await stage.boot(target);
    await stage.becomes(target, 'in-sync');
    assert.is(await readFrom(stage, target, SEGMENT_BLOCKS), 0);
  });
});

run();
