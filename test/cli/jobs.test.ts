/** Jobs, end to end: listed, cancelled, waited for, and in nobody's way when a volume or the node ends. */

import * as assert from 'uvu/assert';
import { check, run, tool } from '../support/check.js';
import { ask, type Json, made, refused } from '../support/node-commands.js';
import { output, until } from '../support/scratch.js';
import { strake } from '../support/strake.js';
import { up } from '../support/up.js';

check('jobs are listed and cancelled, and whoever waits for one learns how it ended', [tool('qemu-io')], async () => {
  const { folder } = await made(2);
  const node = await up([folder, '--create', 'main=16M', '--create', 'other=16M']);
  const env = { STRAKE_NODE: folder };
  for (const name of ['main', 'other']) output('qemu-io', '-f', 'raw', '-c', 'write -P 7 0 8M', node.uri(name));
  // So slow that it would take a quarter of an hour.
  const slowly = ['--rate', '16k'];
  const begun = await ask(['volume', 'scrub', 'main', ...slowly], env);
  assert.equal([(begun.job as Json).id, (begun.job as Json).state], [1, 'running']);
  const second = await refused(['volume', 'scrub', 'main'], 5, 'VOLUME_BUSY', env);
  assert.match(String(second.remedy), 'strake job cancel 1');
  const states = async () =>
    ((await ask(['job', 'list'], env)).jobs as Json[]).map(({ id, volume, state }) => `${id} ${volume} ${state}`);
  // One joins what goes on, and begins what does not.
  const waiting = refused(['device', 'scrub', '--wait', ...slowly], 1, 'ABORTED', env, strake);
  await until('the second job', async () => (await states()).length === 2);
  assert.equal(await states(), ['1 main running', '2 other running']);
  assert.is((await ask(['job', 'cancel', '2'], env)).state, 'cancelled');
  await ask(['volume', 'delete', 'main', '--confirm', 'main'], env);
  const { message } = await waiting;
  assert.match(String(message), 'job 1, scrub of main, cancelled: the volume is being stopped');
  assert.match(String(message), 'job 2, scrub of other, cancelled: it was cancelled');
  await refused(['job', 'cancel', '3'], 1, 'NO_JOB', env);
  await refused(['job', 'cancel', 'none'], 2, 'INVALID_ARGUMENT', env);
  const left = refused(['volume', 'scrub', 'other', '--wait', ...slowly], 4, 'NO_NODE', env, strake);
  await until('the third job', async () => (await states()).includes('3 other running'));
  await ask(['down'], env);
  await left;
});

run();
