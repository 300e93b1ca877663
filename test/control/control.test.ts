/** The control socket of a node: what it takes, what it refuses, and who may use it. */

import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { CONTROL } from '#strake/control/calls.js';
import { callNode } from '#strake/control/client.js';
import { CONTROL_BODY_MAX } from '#strake/control/limits.js';
import { type ControlServer, serveControl } from '#strake/control/server.js';
import { StrakeError } from '#strake/core/errors.js';
import { check, run } from '../support/check.js';
import { FAKE_JOB, FakeNode, idOf, MIB, volumeStatus } from '../support/fake-node.js';
import { scratchFolder, socketPath, until } from '../support/scratch.js';

interface Controlled {
  readonly node: FakeNode;
  readonly socket: string;
  readonly control: ControlServer;
  readonly bugs: unknown[];
  readonly stops: number[];
}

async function controlled(socket = socketPath()): Promise<Controlled> {
  const node = new FakeNode();
  const bugs: unknown[] = [];
  const stops: number[] = [];
  const control = await serveControl({
    socket,
    node,
    process: { pid: process.pid, dir: '/node', address: '/node/strake.sock', startedAt: new Date().toISOString() },
    uriOf: (volume) => `nbd+unix:///${volume}?socket=/node/strake.sock`,
    onStop: () => stops.push(1),
    onBug: (error) => bugs.push(error),
  });
  return { node, socket, control, bugs, stops };
}

interface Raw {
  readonly status: number | undefined;
  readonly body: Record<string, unknown>;
}

/** A request that the client would never make. */
function raw(socket: string, method: string, path: string, body?: string): Promise<Raw> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: socket, method, path, agent: false }, async (response) => {
      let text = '';
      for await (const part of response.setEncoding('utf8')) text += part;
      resolve({ status: response.statusCode, body: JSON.parse(text) });
    });
    sent.on('error', reject).end(body);
  });
}

async function failure(promise: Promise<unknown>): Promise<StrakeError> {
  try {
    await promise;
  } catch (error) {
    assert.instance(error, StrakeError);
    return error as StrakeError;
  }
  throw new Error('it did not fail');
}

check('every call reaches the node, and comes back with what it did', async () => {
  const { node, socket, control, stops } = await controlled();
  const created = await callNode(socket, 'create', { name: 'main', sizeBytes: 16 * MIB, layout: 'mirror', copies: 2 });
  assert.is(created.volume.uri, 'nbd+unix:///main?socket=/node/strake.sock');
  assert.is((await callNode(socket, 'grow', { name: 'main', sizeBytes: 32 * MIB })).volume.sizeBytes, 32 * MIB);
  const id = 'a'.repeat(32);
  await callNode(socket, 'start', { name: 'main', without: [id] });
  assert.equal((await callNode(socket, 'scrub', { name: 'main', bytesPerSecond: 7 })).job, FAKE_JOB);
  const { jobs, startedAt } = await callNode(socket, 'jobs', {});
  assert.equal([jobs, Number.isNaN(Date.parse(startedAt))], [[FAKE_JOB], false]);
  assert.is((await callNode(socket, 'cancel-job', { id: 3 })).job.state, 'cancelled');
  await callNode(socket, 'replace-device', { deviceId: id, path: '/dev/new' });
  const { volumes } = await callNode(socket, 'forget-device', { deviceId: id });
  assert.is(volumes, 3);
  assert.equal(
    (await callNode(socket, 'volumes', {})).volumes.map(({ name }) => name),
    ['main'],
  );
  assert.equal((await callNode(socket, 'devices', {})).devices, []);
  const status = await callNode(socket, 'status', {});
  assert.equal([status.verdict, status.process.pid, status.volumes.length], ['ok', process.pid, 1]);
  assert.is((await failure(callNode(socket, 'add-device', { path: '/dev/x' }))).code, 'ERR_STRAKE_WRONG_DEVICE');
  const main = idOf('main');
  assert.is((await callNode(socket, 'rename', { name: 'main', newName: 'other' })).volume.name, 'other');
  // By digits of its id.
  assert.is((await callNode(socket, 'rename', { name: main.slice(0, 8), newName: 'main' })).volume.name, 'main');
  assert.equal(await callNode(socket, 'delete', { name: 'main' }), { id: main, name: 'main' });
  assert.equal(await callNode(socket, 'stop', {}), { pid: process.pid });
  await until('the wish to stop', () => stops.length === 1);
  assert.equal(node.asked, [
    ['create', { name: 'main', sizeBytes: 16 * MIB, layout: 'mirror', copies: 2 }],
    ['grow', main, 32 * MIB],
    ['start', main, { without: [id] }],
    ['scrub', main, { bytesPerSecond: 7 }],
    ['cancel', 3],
    ['replace', id, '/dev/new'],
    ['forgetDevice', id],
    ['add', '/dev/x'],
    ['rename', main, 'other'],
    ['rename', main, 'main'],
    ['delete', main],
  ]);
  await control.close();
  assert.is(existsSync(socket), false);
});

check('a volume that holds data is deleted only if it is named twice', async () => {
  const { node, socket, control } = await controlled();
  node.list = [volumeStatus('main', { allocatedBytes: MIB })];
  const refused = await failure(callNode(socket, 'delete', { name: 'main' }));
  assert.is(refused.code, 'ERR_STRAKE_HOLDS_DATA');
  assert.match(refused.remedy, '--confirm');
  const other = await failure(callNode(socket, 'delete', { name: 'main', confirm: 'mine' }));
  assert.is(other.code, 'ERR_STRAKE_INVALID_ARGUMENT');
  assert.is((await failure(callNode(socket, 'delete', { name: 'none' }))).code, 'ERR_STRAKE_NO_VOLUME');
  assert.equal(node.asked, []);
  await callNode(socket, 'delete', { name: 'main', confirm: 'main' });
  assert.equal(node.asked, [['delete', idOf('main')]]);
  node.list = [volumeStatus('main', { allocatedBytes: MIB })];
  await callNode(socket, 'delete', { name: idOf('main'), confirm: idOf('main') });
  await control.close();
});

check('errors of the node keep code, remedy and number; a bug is told as one and ends nothing', async () => {
  const { node, socket, control, bugs } = await controlled();
  node.failure = new StrakeError('NO_SPACE', 'no slot is free', { remedy: 'Add a device.', errno: 28 });
  const error = await failure(callNode(socket, 'create', { name: 'a', sizeBytes: MIB }));
  assert.equal(
    [error.code, error.message, error.remedy, error.errno],
    ['ERR_STRAKE_NO_SPACE', 'no slot is free', 'Add a device.', 28],
  );
  assert.equal(bugs, []);
  node.failure = new TypeError('oops');
  await failure(callNode(socket, 'create', { name: 'a', sizeBytes: MIB }));
  assert.is(bugs.length, 1);
  assert.is((await callNode(socket, 'status', {})).verdict, 'ok');
  await control.close();
});

check('bad requests are refused, and name what is wrong', async () => {
  const { node, socket, control } = await controlled();
  const wrong: [string, string, string | undefined, RegExp][] = [
    ['GET', '/', undefined, /known are/],
    ['GET', '/v1/constructor', undefined, /there is no/],
    ['GET', '/v1/../v1/status', undefined, /there is no/],
    ['GET', '/v1/create', undefined, /takes POST/],
    ['POST', '/v1/status', '{}', /takes GET/],
    ['POST', '/v1/create', '{', /not JSON/],
    ['POST', '/v1/create', '[]', /object/],
    ['POST', '/v1/create', 'null', /object/],
    ['POST', '/v1/create', '', /name/],
    ['POST', '/v1/create', '{"name":"a"}', /sizeBytes/],
    ['POST', '/v1/create', '{"name":"a","sizeBytes":1.5}', /sizeBytes/],
    ['POST', '/v1/create', '{"name":"a","sizeBytes":-4096}', /sizeBytes/],
    ['POST', '/v1/create', '{"name":"a","sizeBytes":"1"}', /sizeBytes/],
    ['POST', '/v1/create', '{"name":"a\\u0000","sizeBytes":1}', /name/],
    ['POST', '/v1/create', '{"name":"a","sizeBytes":4096,"layout":"raid"}', /layout/],
    ['POST', '/v1/create', '{"name":"a","sizeBytes":4096,"nonsense":1}', /unknown key "create.nonsense"/],
    ['POST', '/v1/create', '{"name":"a","sizeBytes":4096,"__proto__":{}}', /unknown key "create.__proto__"/],
    ['POST', '/v1/start', '{"name":"a","without":["x"]}', /without/],
    ['POST', '/v1/create', `"${'x'.repeat(CONTROL_BODY_MAX)}"`, /more than/],
  ];
  for (const [method, path, body, expected] of wrong) {
    const { status, body: error } = await raw(socket, method, path, body);
    assert.is(status, 400, `${method} ${path} ${body?.slice(0, 80)}`);
    assert.is(error.schema, 'strake.error');
    assert.is(error.code, 'ERR_STRAKE_INVALID_ARGUMENT');
    assert.match(String(error.message), expected);
  }
  assert.equal(node.asked, []);
  await control.close();
});

check('garbage and silence harm nobody, and do not keep the socket from closing', async () => {
  const { socket, control } = await controlled();
  const silent = connect(socket).on('error', () => {});
  const garbage = connect(socket)
    .on('error', () => {})
    .resume();
  garbage.write(Buffer.alloc(4096, 0xff));
  await new Promise((resolve) => garbage.on('close', resolve));
  assert.is((await callNode(socket, 'status', {})).verdict, 'ok');
  const startedMs = performance.now();
  await control.close();
  assert.ok(performance.now() - startedMs < 10_000);
  silent.destroy();
});

check('the socket is for its user only; a stale one is replaced, a live one and a file are not', async () => {
  const { socket, control } = await controlled();
  assert.is(statSync(socket).mode & 0o777, 0o600);
  assert.is((await failure(controlled(socket))).code, 'ERR_STRAKE_ADDRESS_IN_USE');
  assert.is((await callNode(socket, 'status', {})).verdict, 'ok');
  await control.close();
  const file = join(scratchFolder(), 'in-the-way');
  writeFileSync(file, 'mine');
  assert.is((await failure(controlled(file))).code, 'ERR_STRAKE_ADDRESS');
  assert.is(statSync(file).size, 4);
  assert.is((await failure(controlled(join(scratchFolder(), 'none', 'x.sock')))).code, 'ERR_STRAKE_ADDRESS');
  assert.match((await failure(controlled(`/tmp/${'x'.repeat(110)}`))).message, '107');
});

check('a client tells apart nobody, somebody else, and another version', async () => {
  const socket = socketPath();
  assert.is((await failure(callNode(socket, 'status', {}))).code, 'ERR_STRAKE_NO_NODE');
  for (const answer of ['hello\n', 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi', '']) {
    const other = createServer((client) =>
      client
        .on('error', () => {})
        .resume()
        .end(answer),
    );
    await new Promise<void>((resolve) => other.listen(socket, resolve));
    assert.is((await failure(callNode(socket, 'status', {}))).code, 'ERR_STRAKE_NO_NODE');
    await new Promise((resolve) => other.close(resolve));
    rmSync(socket, { force: true });
  }
});

check('whoever asks for jobs while the node stops is told that, and not that they were cancelled', async () => {
  const { node, socket, control } = await controlled();
  // Asked before, and answered after the node has begun to stop.
  const { jobs } = node;
  node.jobs = () => {
    control.noteStopping();
    return jobs.call(node);
  };
  for (let time = 0; time < 2; time += 1) {
    const { code, message } = await failure(callNode(socket, 'jobs', {}));
    assert.is(code, 'ERR_STRAKE_NO_NODE');
    assert.match(message, `process ${process.pid}) is being stopped`);
  }
  assert.is((await callNode(socket, 'status', {})).verdict, 'ok');
  await control.close();
});

check('calls that change something say so', () => {
  const reading = Object.entries(CONTROL).filter(([, { changes }]) => !changes);
  assert.equal(
    reading.map(([name]) => name),
    ['status', 'volumes', 'devices', 'jobs'],
  );
});

run();
