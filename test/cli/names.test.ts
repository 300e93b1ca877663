/** Names of volumes, end to end: whatever a name may be, it is data. */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run, tool } from '../support/check.js';
import { ask, type Json, made, refused } from '../support/node-commands.js';
import { output } from '../support/scratch.js';
import { up } from '../support/up.js';

/** Names that every object of JavaScript has a property for. */
const INHERITED = ['constructor', 'toString', 'hasOwnProperty', 'valueOf'];

check('names that objects inherit are names like others', [tool('qemu-io')], async () => {
  const { folder, devices, ids } = await made(2);
  let node = await up([folder, ...INHERITED.flatMap((name) => ['--create', `${name}=4M`])]);
  assert.is(node.data.verdict, 'ok');
  for (const name of INHERITED) output('qemu-io', '-f', 'raw', '-c', 'write -P 7 0 4k', '-c', 'flush', node.uri(name));
  await ask(['volume', 'grow', 'constructor', '--size', '8M', '--node', folder]);
  assert.is((await ask(['volume', 'show', 'constructor', '--node', folder])).sizeBytes, 8 << 20);
  await node.stop();
  rmSync(devices[1]);
  // One by the configuration, one by an option, one by a command; one is left as it is.
  writeFileSync(join(folder, 'strake.json'), JSON.stringify({ without: { toString: [ids[1]] } }));
  node = await up([folder, '--without', `constructor=${ids[1]}`]);
  await ask(['volume', 'start', 'valueOf', '--without', ids[1], '--node', folder]);
  const { volumes } = await ask(['volume', 'list', '--node', folder]);
  assert.equal((volumes as Json[]).map(({ name, state }) => `${name} ${state}`).sort(), [
    'constructor degraded',
    'hasOwnProperty unproven',
    'toString degraded',
    'valueOf degraded',
  ]);
  for (const name of ['constructor', 'toString', 'valueOf'])
    output('qemu-io', '-f', 'raw', '-c', 'read -P 7 0 4k', node.uri(name));
  await ask(['volume', 'delete', 'constructor', '--confirm', 'constructor', '--node', folder]);
  await node.stop();
});

check('a name that no volume may have is refused as such', async () => {
  const { folder, ids } = await made(1);
  const node = await up([folder]);
  await refused(['volume', 'create', '__proto__', '--size', '4M', '--node', folder], 2, 'INVALID_ARGUMENT');
  await refused(['volume', 'show', '__proto__', '--node', folder], 1, 'NO_VOLUME');
  await refused(['volume', 'show', 'constructor', '--node', folder], 1, 'NO_VOLUME');
  await node.stop();
  writeFileSync(join(folder, 'strake.json'), `{"without": {"__proto__": ["${ids[0]}"]}}`);
  const again = await up([folder, '--without', `__proto__=${ids[0]}`]);
  assert.is(again.data.verdict, 'ok');
  await again.stop();
  await refused(['up', folder, '--create', '__proto__=4M'], 2, 'INVALID_ARGUMENT');
});

run();
