/** Which of the devices that were named become a node's: it follows from what they say and from their order alone. */

import * as assert from 'uvu/assert';
import { SHARD_STORES_MAX } from '#strake/core/limits.js';
import { chooseDevices } from '#strake/embed/node-choice.js';
import type { Superblock } from '#strake/store/format/superblock.js';
import { check, run } from '../support/check.js';

interface Named {
  readonly path: string;
  readonly superblock: Superblock;
}

/** Devices by what they say: the letter of the cluster, and the digit of the device. */
function devices(...names: string[]): Named[] {
  return names.map((name, at) => {
    const superblock = { clusterId: name[0].repeat(32), deviceId: name.repeat(16) } as Superblock;
    return { path: `${at}-${name}`, superblock };
  });
}

function chosen(clusterId: string, ...names: string[]): string {
  const all = devices(...names);
  const { clusterId: found, refused } = chooseDevices(all, clusterId, SHARD_STORES_MAX);
  const taken = all.filter((device) => !refused.has(device)).map(({ path }) => path.slice(2));
  return `${found[0]}: ${taken.join(' ')}`;
}

check('the cluster of most devices counts, or of the one named first, or the one that is configured', [], () => {
  assert.is(chosen('', 'b1', 'a1', 'a2'), 'a: a1 a2');
  assert.is(chosen('', 'b1', 'a1'), 'b: b1');
  assert.is(chosen('', 'a1', 'b1'), 'a: a1');
  assert.is(chosen('b'.repeat(32), 'a1', 'a2', 'b1'), 'b: b1');
  // A copy is no further member.
  assert.is(chosen('', 'a1', 'b1', 'b1'), 'a: a1');
});

check('of several devices with one id none is taken, in whatever order they are named', [], () => {
  for (const names of [
    ['a1', 'a2', 'a2'],
    ['a2', 'a1', 'a2'],
    ['a2', 'a2', 'a1'],
  ]) {
    assert.is(chosen('', ...names), 'a: a1');
  }
});

check('there is room for so many, and those named first are taken', [], () => {
  const all = devices('a1', 'a2', 'a3');
  const { refused } = chooseDevices(all, '', 2);
  assert.equal(
    all.map((device) => refused.get(device)?.code),
    [undefined, undefined, 'ERR_STRAKE_BUSY'],
  );
});

run();
