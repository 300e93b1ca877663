/** Names of volumes, end to end: whatever a name may be, it is data. */

import { renameSync, rmSync, writeFileSync } from 'node:fs';
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

const write = (uri: string, pattern: number) =>
  output('qemu-io', '-f', 'raw', '-c', `write -P ${pattern} 0 1M`, '-c', 'flush', uri);
const read = (uri: string, pattern: number) => output('qemu-io', '-f', 'raw', '-c', `read -P ${pattern} 0 1M`, uri);

check(
  'two volumes of one name are told apart by id, and not served until one is renamed',
  [tool('qemu-io')],
  async () => {
    const { folder, devices } = await made(2);
    const ids: string[] = [];
    for (const [at, device] of devices.entries()) {
      const node = await up([folder, '--device', device, '--create', 'main=16M,single']);
      write(node.uri('main'), 1 + at);
      ids.push(String((node.data.volumes as Json[])[0].id));
      await node.stop();
    }
    // It neither makes a third one nor keeps the node from starting.
    let node = await up([folder, '--create', 'main=16M']);
    const env = { STRAKE_NODE: folder };
    assert.is(node.data.verdict, 'critical');
    const status = await ask(['status'], env);
    const volumes = status.volumes as Json[];
    assert.equal(volumes.map(({ id }) => id).sort(), ids.toSorted());
    assert.equal(
      volumes.map(({ name, state, uri }) => [name, state, uri]),
      [
        ['main', 'conflict', ''],
        ['main', 'conflict', ''],
      ],
    );
    const [found] = (status.checks as Json[]).filter(({ name }) => name === 'name main');
    assert.is(found.state, 'critical');
    assert.match(String(found.remedy), 'strake volume rename');
    for (const id of ids) assert.match(String(found.text), id);
    assert.throws(() => read(node.uri('main'), 1));
    for (const [verb, ...options] of [['show'], ['scrub'], ['delete'], ['grow', '--size', '32M']]) {
      await refused(['volume', verb, 'main', ...options], 5, 'NAME_CONFLICT', env);
    }
    await refused(['volume', 'rename', 'main', 'other'], 5, 'NAME_CONFLICT', env);
    const renamed = await ask(['volume', 'rename', ids[1].slice(0, 12), 'other'], env);
    assert.equal([renamed.id, renamed.name, renamed.uri], [ids[1], 'other', node.uri('other')]);
    read(node.uri('main'), 1);
    read(node.uri('other'), 2);
    await refused(['volume', 'rename', 'main', 'other'], 1, 'EXISTS', env);
    await refused(['volume', 'create', ids[0], '--size', '4M'], 2, 'INVALID_ARGUMENT', env);
    assert.is((await ask(['volume', 'scrub', ids[0], '--wait'], env)).id, ids[0]);
    assert.is((await ask(['volume', 'grow', ids[0].toUpperCase(), '--size', '32M'], env)).sizeBytes, 32 << 20);
    await refused(['volume', 'delete', ids[0]], 5, 'HOLDS_DATA', env);
    await refused(['volume', 'delete', ids[0], '--confirm', ids[1]], 2, 'INVALID_ARGUMENT', env);
    assert.equal((await ask(['volume', 'delete', ids[0], '--confirm', ids[0]], env)).name, 'main');
    await ask(['volume', 'rename', 'other', 'main'], env);
    await node.stop();
    node = await up([folder]);
    assert.is(node.data.verdict, 'ok');
    read(node.uri('main'), 2);
    await node.stop();
  },
);

check('a volume that is served goes on when a device is added that brings its name', [tool('qemu-io')], async () => {
  const { folder, devices } = await made(2);
  const ids: string[] = [];
  for (const [at, device] of devices.entries()) {
    const node = await up([folder, '--device', device, '--create', 'main=16M,single']);
    write(node.uri('main'), 1 + at);
    ids.push(String((node.data.volumes as Json[])[0].id));
    await node.stop();
  }
  const away = join(folder, 'away');
  renameSync(devices[1], away);
  const node = await up([folder]);
  const env = { STRAKE_NODE: folder };
  renameSync(away, devices[1]);
  await ask(['device', 'add', devices[1]], env);
  read(node.uri('main'), 1);
  write(node.uri('main'), 3);
  const status = await ask(['status'], env);
  assert.is(status.verdict, 'critical');
  const [found] = (status.checks as Json[]).filter(({ name }) => name === 'name main');
  assert.match(String(found.text), `${ids[0]} is served`);
  await ask(['volume', 'rename', ids[1], 'second'], env);
  assert.is((await ask(['status'], env)).verdict, 'ok');
  read(node.uri('main'), 3);
  read(node.uri('second'), 2);
  await node.stop();
});

run();
