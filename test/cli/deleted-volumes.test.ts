/** Volumes that are deleted while a device is away: what the command line says of them, and how the device is given up. */

import { renameSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { ask, type Json, made, refused } from '../support/node-commands.js';
import { strake } from '../support/strake.js';
import { up } from '../support/up.js';

const VOLUME_BYTES = 16 << 20;

check('a device that deleted volumes wait for is told, and given up by its id', [], async () => {
  const { folder, devices, ids } = await made(2);
  const env = { STRAKE_NODE: folder };
  let node = await up([folder, '--create', `main=${VOLUME_BYTES}`]);
  await node.stop();
  renameSync(devices[1], `${devices[1]}.away`);
  node = await up([folder]);
  await ask(['volume', 'start', 'main', '--without', ids[1]], env);
  await ask(['volume', 'delete', 'main'], env);
  assert.equal((await ask(['status'], env)).awaited, [{ deviceId: ids[1], volumes: 1 }]);
  await refused(['device', 'forget', ids[0]], 5, 'VOLUME_BUSY', env);
  await refused(['device', 'forget', 'ffff'], 1, 'NO_DEVICE', env);
  const { schema, deviceId, volumes } = await ask(['device', 'forget', ids[1].slice(0, 8)], env);
  assert.equal([schema, deviceId, volumes], ['strake.device.forget', ids[1], 1]);
  assert.equal((await ask(['status'], env)).awaited, []);
  await ask(['volume', 'create', 'main', '--size', String(VOLUME_BYTES), '--layout', 'single'], env);
  await node.stop();
  // It turns up all the same: what it brings is not served by itself.
  renameSync(`${devices[1]}.away`, devices[1]);
  node = await up([folder]);
  const { volumes: listed } = await ask(['volume', 'list'], env);
  assert.equal(
    (listed as Json[]).map(({ name, layout, state }) => [name, layout, state]),
    [['main', 'single', 'ok']],
  );
  assert.match((await strake(['device', 'forget', '--help'], env)).stdout, /lost for good/);
  await node.stop();
});

run();
