/** Sequences on which clients that only read must not be misled, played on whole clusters in the simulator. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { Stage } from '../support/cluster-stage.js';

const BLOCK = 4096;
/** Longer than a lease. */
const BEYOND_MS = 3_000;

check('a reader that reaches a member alone which was left out reads nothing there', async () => {
  await Stage.play({ readers: 1 }, async (stage) => {
    const { cluster } = stage;
    const [first, second] = stage.nodes;
    const [writer] = stage.clients;
    const reader = await stage.reader();
    const before = await stage.wrote(writer, 0);
    // The second flush tells what the first has settled: of that one member is asked alone.
    for (let flush = 0; flush < 2; flush += 1) assert.is(await stage.flush(writer), 0);
    assert.is(await stage.read(reader, 0), before.value);
    // The second node hears of nothing, and the reader of nobody else.
    stage.part(second, cluster.manager);
    stage.part(second, writer);
    stage.part(reader, first);
    const answers: number[] = [];
    let asking = true;
    const ask = async () => {
      while (asking) {
        void stage.read(reader, 0).then((value) => answers.push(value));
        await stage.pause(20);
      }
    };
    void ask();
    await stage.becomes(second, 'offline');
    const after = await stage.wrote(writer, 0);
    await stage.pause(BEYOND_MS);
    asking = false;
    assert.not(answers.includes(after.value), 'the reader reads what it cannot know');
  });
});

check('a map that was decided for a client that has gone disturbs no reader', async () => {
  await Stage.play({ readers: 1 }, async (stage) => {
    const { cluster, world } = stage;
    const [writer] = stage.clients;
    const reader = await stage.reader();
    const first = await stage.wrote(writer, 0);
    const gone = { volume: cluster.volume.name, clientId: 'f'.repeat(32), takeOver: true };
    await world.settle(cluster.manager.program.manager.attach(gone));
    const beganUs = world.nowUs;
    assert.is(await stage.read(reader, 0), first.value);
    assert.ok(world.nowUs - beganUs < 10_000, 'it waits for nothing');
  });
});

check('a node reads a volume of which it has a member itself, and of what was brought up to date', async () => {
  await Stage.play({ nodes: 3, copies: 2 }, async (stage) => {
    const { volume, world } = stage.cluster;
    const [first, second] = stage.nodes;
    const [writer, next] = stage.clients;
    const { process, program } = first;
    await world.settle(program.attach(volume.name, { readOnly: true }), process);
    const reads = async (block: number) => {
      const { served } = program.node.volume(volume.id);
      const at = process.bytes.length - 2 * BLOCK;
      const slot = volume.history.beginRead(8 * block, 8, world.nowUs);
      const result = await new Promise<number>((resolve) => {
        served?.read(at, BLOCK, block * BLOCK, process.register({ complete: (_, count) => resolve(count) }));
      });
      assert.is(result, BLOCK);
      volume.history.endRead(slot, process.bytes.slice(at, at + BLOCK), 0, world.nowUs);
    };
    for (let block = 0; block < 4; block += 1) {
      await stage.wrote(writer, block);
      await world.settle(reads(block));
    }
    stage.kill(second);
    await stage.becomes(second, 'offline');
    await stage.wrote(writer, 1);
    await world.settle(reads(1));
    await stage.boot(second);
    await stage.becomes(second, 'in-sync');
    for (let round = 0; round < 4; round += 1) await world.settle(reads(1));
    stage.kill(writer);
    assert.ok(await next.serve(true));
    stage.cluster.holder = next;
    await stage.wrote(next, 1);
    await world.settle(reads(1));
    await world.settle(program.detach(volume.name), process);
  });
});

run();
