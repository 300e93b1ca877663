/** The admin API: what operators ask of a manager, over HTTP. */

import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { StrakeError } from '#strake/core/errors.js';
import { AdminWorld } from '../support/admin-world.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { project } from '../support/project.js';
import { socketPath } from '../support/scratch.js';

const VOLUME = { name: 'db', sizeBytes: 1 << 24, layout: 'mirror', copies: 2 };

check('a volume is made, looked at, renamed, grown and deleted', async () => {
  const admin = await AdminWorld.open();
  const made = await admin.ask({ method: 'POST', path: '/v1/volumes', body: { ...VOLUME, on: ['a', 'b'] } });
  assert.is(made.status, 201, made.text);
  const { volumeId } = made.body.volume;
  assert.equal([made.body.schema, made.body.version], ['strake.admin.volume', 1]);
  assert.is(made.headers.location, `/v1/volumes/${volumeId}`);
  for (const named of ['db', volumeId]) {
    const { status, body } = await admin.ask({ path: `/v1/volumes/${named}` });
    assert.equal([status, body.volume.name, body.volume.groups.length], [200, 'db', 1]);
    assert.equal(
      body.volume.groups[0].members.map(({ nodeName }: { nodeName: string }) => nodeName),
      ['a', 'b'],
    );
  }
  const renamed = await admin.ask({ method: 'PATCH', path: '/v1/volumes/db', body: { name: 'data' } });
  assert.equal([renamed.status, renamed.body.volume.name], [200, 'data']);
  const grown = await admin.ask({ method: 'PATCH', path: '/v1/volumes/data', body: { sizeBytes: 1 << 25 } });
  assert.equal([grown.status, grown.body.volume.sizeBytes], [200, 1 << 25]);
  for (const path of ['/v1/volumes/data', '/v1/volumes/data?confirm=dat']) {
    const refused = await admin.ask({ method: 'DELETE', path });
    assert.is(refused.status, 400, path);
    assert.match(refused.body.remedy, /confirm=data/);
  }
  const deleted = await admin.ask({ method: 'DELETE', path: '/v1/volumes/data?confirm=data' });
  assert.equal(deleted.body, { schema: 'strake.admin.deleted', version: 1, volumeId, name: 'data' });
  assert.is((await admin.ask({ path: '/v1/volumes/data' })).status, 404);
  assert.equal((await admin.ask({ path: '/v1/volumes' })).body.volumes, []);
  assert.equal(admin.bugs, []);
  await admin.close();
});

check('nodes, devices, events, the cluster and its times are told', async () => {
  const admin = await AdminWorld.open();
  const { nodes } = (await admin.ask({ path: '/v1/nodes' })).body;
  assert.equal(
    nodes.map(({ name, state }: { name: string; state: string }) => [name, state]),
    [
      ['a', 'up'],
      ['b', 'up'],
      ['c', 'up'],
    ],
  );
  const { devices } = (await admin.ask({ path: '/v1/devices' })).body;
  assert.equal(
    devices.map(({ nodeName }: { nodeName: string }) => nodeName),
    ['a', 'b', 'c'],
  );
  const { cluster } = (await admin.ask()).body;
  assert.equal([cluster.deciding, cluster.times.holdMs, cluster.awaited], [true, 60_000, []]);
  const { times } = (await admin.ask({ method: 'PATCH', path: '/v1/cluster/times', body: { holdMs: 30_000 } })).body;
  assert.is(times.holdMs, 30_000);
  assert.is((await admin.ask()).body.cluster.times.holdMs, 30_000);
  const wrong = await admin.ask({ method: 'PATCH', path: '/v1/cluster/times', body: { holdMs: 1 } });
  assert.equal([wrong.status, wrong.body.code], [400, 'ERR_STRAKE_INVALID_ARGUMENT']);
  await admin.ask({ method: 'POST', path: '/v1/volumes', body: VOLUME });
  const { events } = (await admin.ask({ path: '/v1/events' })).body;
  const numbers = events.map(({ number }: { number: number }) => number);
  assert.ok(numbers.length > 1);
  const later = (await admin.ask({ path: `/v1/events?after=${numbers[0]}` })).body.events;
  assert.equal(
    later.map(({ number }: { number: number }) => number),
    numbers.slice(1),
  );
  await admin.close();
});

check('errors are told with their code, their words and their remedy', async () => {
  const thrown = (name: 'VOLUME_BUSY' | 'NO_MANAGER' | 'NO_SPACE') => () =>
    Promise.reject(new StrakeError(name, 'because', { remedy: 'Do something.' }));
  for (const [name, status] of [
    ['VOLUME_BUSY', 409],
    ['NO_MANAGER', 503],
    ['NO_SPACE', 507],
  ] as const) {
    const admin = await AdminWorld.open({ create: thrown(name) });
    const { status: found, body, headers } = await admin.ask({ method: 'POST', path: '/v1/volumes', body: VOLUME });
    assert.is(found, status);
    const { code, message, remedy, schema } = body;
    assert.equal([code, message, remedy, schema], [`ERR_STRAKE_${name}`, 'because', 'Do something.', 'strake.error']);
    assert.is(headers['retry-after'], status === 503 ? '1' : undefined);
    assert.equal(admin.bugs, []);
    await admin.close();
  }
});

check('what is a mistake of the program is told to its owner, and not to the client', async () => {
  const admin = await AdminWorld.open({ status: () => Promise.reject(new TypeError('secret of the program')) });
  const { status, text } = await admin.ask();
  assert.is(status, 500);
  assert.not.match(text, /secret/);
  assert.equal(admin.bugs.map(String), ['TypeError: secret of the program']);
  await admin.close();
});

check('probes tell how the manager and the cluster are, and are open', async () => {
  const admin = await AdminWorld.open();
  for (const path of ['/livez', '/readyz', '/healthz/cluster']) {
    const { status, body } = await admin.ask({ path, bare: true });
    assert.equal([status, body.healthy], [200, true], path);
  }
  await admin.close();
  const sick = await AdminWorld.open({ volumes: () => Promise.reject(new StrakeError('NO_MANAGER', 'it has gone')) });
  assert.is((await sick.ask({ path: '/livez', bare: true })).status, 200);
  for (const path of ['/readyz', '/healthz/cluster']) {
    const { status, body } = await sick.ask({ path, bare: true });
    assert.equal([status, body.checks], [503, [{ name: 'manager', healthy: false, reason: 'it has gone' }]], path);
  }
  await sick.close();
});

check('a cluster that lacks something is not healthy, and says what', async () => {
  const admin = await AdminWorld.open();
  const { world } = admin;
  const { maps } = await world.create('v', 2, ['a', 'b']);
  await world.bring(maps);
  await world.pass(3000);
  const { status, body } = await admin.ask({ path: '/healthz/cluster', bare: true });
  assert.is(status, 503);
  const reasons = body.checks
    .map(({ name, reason }: { name: string; reason: string }) => `${name}: ${reason}`)
    .join('\n');
  assert.match(reasons, /nodes: node a is down; node b is down; node c is down/);
  assert.match(reasons, /devices: device [0-9a-f]+ of a is absent/);
  assert.is((await admin.ask({ path: '/readyz', bare: true })).status, 200);
  await admin.close();
});

check('probes ask the manager once, however many there are', async () => {
  let asked = 0;
  const admin = await AdminWorld.open({
    nodes: async () => {
      asked += 1;
      return [];
    },
  });
  await Promise.all(Array.from({ length: 50 }, () => admin.ask({ path: '/healthz/cluster', bare: true })));
  assert.ok(asked <= 2, `${asked} times`);
  await admin.close();
});

check('metrics have the names and units of their kind, and one series for each state', async () => {
  const admin = await AdminWorld.open();
  await admin.ask({ method: 'POST', path: '/v1/volumes', body: { ...VOLUME, name: 'a"b\\c' } });
  await admin.ask({ method: 'POST', path: '/v1/volumes', body: VOLUME });
  const { status, text, headers } = await admin.ask({ path: '/metrics' });
  assert.is(status, 200);
  assert.match(String(headers['content-type']), /text\/plain; version=0.0.4/);
  const names = [...text.matchAll(/^([a-z_]+)(?:\{|\s)/gm)].map(([, name]) => name);
  assert.ok(names.length > 20 && names.every((name) => name.startsWith('strake_')), names.join());
  for (const line of [
    'strake_manager_up 1',
    'strake_manager_deciding 1',
    'strake_build_info{version="1.2.3"} 1',
    'strake_node_state{node="a",state="up"} 1',
    'strake_node_state{node="a",state="down"} 0',
    'strake_volume_state{volume="db",state="whole"} 1',
    'strake_volume_state{volume="db",state="degraded"} 0',
    'strake_volume_attached{volume="db"} 0',
    `strake_volume_size_bytes{volume="db"} ${1 << 24}`,
  ]) {
    assert.ok(text.includes(`${line}\n`), line);
  }
  const again = await admin.ask({ path: '/metrics' });
  assert.match(again.text, /strake_admin_requests_total\{method="POST",route="\/v1\/volumes",status="201"\} 1/);
  assert.match(again.text, /strake_admin_request_duration_seconds_count\{route="\/metrics"\} 1/);
  await admin.close();
  const sick = await AdminWorld.open({ status: () => Promise.reject(new StrakeError('NO_MANAGER', 'it has gone')) });
  const told = await sick.ask({ path: '/metrics' });
  assert.equal([told.status, told.text.includes('strake_manager_up 0\n')], [200, true]);
  await sick.close();
});

check('the page of the API names each route and each metric', async () => {
  const page = readFileSync(join(project, 'docs', 'admin-api.md'), 'utf8');
  const admin = await AdminWorld.open();
  const { maps } = await admin.world.create('v', 2, ['a', 'b']);
  await admin.world.bring(maps);
  const { text } = await admin.ask({ path: '/metrics' });
  for (const [, name] of text.matchAll(/^# TYPE (strake_\S+) /gm)) {
    if (/^strake_(process|nodejs)_/.test(name)) continue;
    assert.ok(page.includes(`\`${name}\``), name);
  }
  const { paths } = (await admin.ask({ path: '/openapi.json' })).body;
  for (const [path, methods] of Object.entries(paths as Record<string, object>)) {
    for (const method of Object.keys(methods)) {
      const shown = `\`${method.toUpperCase()} ${path.replace('{volume}', ':volume')}`;
      assert.ok(page.includes(shown), shown);
    }
  }
  await admin.close();
});

check('the OpenAPI document has every route, with what it takes and answers', async () => {
  const admin = await AdminWorld.open();
  const { status, body } = await admin.ask({ path: '/openapi.json' });
  assert.is(status, 200);
  assert.is(body.openapi, '3.1.0');
  const routes = Object.entries(body.paths as Record<string, object>).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method} ${path}`),
  );
  assert.equal(routes.sort(), [
    'delete /v1/volumes/{volume}',
    'get /healthz/cluster',
    'get /livez',
    'get /metrics',
    'get /readyz',
    'get /v1/cluster',
    'get /v1/devices',
    'get /v1/events',
    'get /v1/nodes',
    'get /v1/volumes',
    'get /v1/volumes/{volume}',
    'patch /v1/cluster/times',
    'patch /v1/volumes/{volume}',
    'post /v1/volumes',
    'post /v1/volumes/{volume}/start-without',
  ]);
  const create = body.paths['/v1/volumes'].post;
  assert.is(create.requestBody.content['application/json'].schema.additionalProperties, false);
  assert.ok(create.responses['201'] !== undefined && create.responses['4XX'] !== undefined);
  await admin.close();
});

check('it listens on a socket that only its owner can use, and on loopback addresses alone', async () => {
  const path = socketPath();
  const admin = await AdminWorld.open({}, { path });
  assert.is(statSync(path).mode & 0o777, 0o600);
  assert.is(statSync(admin.tokenFile).mode & 0o777, 0o600);
  assert.is((await admin.ask({ headers: { host: 'localhost' } })).status, 200);
  await failure('ADDRESS_IN_USE', AdminWorld.open({}, { path }));
  await admin.close();
  const again = await AdminWorld.open({}, { path });
  await again.close();
  for (const host of ['0.0.0.0', '10.0.0.1', '::']) {
    await failure('ADDRESS', AdminWorld.open({}, { host, port: 0 }), /which others reach/);
  }
});

run();
