/** Members that leave and come back while the map is being changed, and what a volume does that has nobody left to do without. */

import * as assert from 'uvu/assert';
import { FENCE_ALL, FENCE_OPEN } from '#strake/ports/device.js';
import { check, run } from '../support/check.js';
import type { ScriptedMember } from '../support/scripted-member.js';
import { BLOCK } from '../support/segment-world.js';
import { deviceId, VolumeBench } from '../support/volume-bench.js';

/** The same member, as it is there again. */
function backAgain(member: ScriptedMember): ScriptedMember {
  return Object.assign(Object.create(member) as ScriptedMember, { fenced: FENCE_OPEN, fail: () => undefined });
}

check('a member stays if nobody else has its group any more when its turn to leave comes', async () => {
  const bench = await new VolumeBench(['in-sync', 'in-sync'], () => {}, { holdMs: () => 60_000 }).start();
  const { engine, members, world } = bench;
  const [last, leaving] = members;
  bench.write(0, 0, BLOCK, 6);
  await world.drain();
  let decide = (): void => {};
  bench.commit = () => {
    return new Promise((resolve) => {
      decide = resolve;
    });
  };
  leaving.fenced = FENCE_ALL;
  engine.partFrom(leaving.deviceId, 'it says nothing');
  await world.drain();
  // It is back before whoever decides has answered, and the other one is lost.
  assert.ok(engine.rejoin(0, 1, backAgain(leaving)));
  last.fenced = FENCE_ALL;
  last.fail = () => -5;
  engine.partFrom(deviceId(0), 'it says nothing');
  bench.write(1, 0, BLOCK, 7);
  decide();
  await world.drain();
  assert.equal(bench.states(), ['in-sync', 'offline']);
  assert.is.not(engine.status().state, 'failed', 'a volume fails whose last copy may come back');
  assert.is(bench.results[1], undefined, 'a write is answered that no copy has');
  assert.ok(engine.rejoin(0, 0, backAgain(last)));
  await world.drain();
  assert.is(bench.results[1], BLOCK);
});

run();
