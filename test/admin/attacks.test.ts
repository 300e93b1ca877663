/**
 * Attacks on the admin API: who has no token, who means another server, what is no request or more than one, and what is too much.
 * Each has a definite answer, nothing is done, and others are served.
 */

import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { adminToken } from '#strake/admin/admin-guard.js';
import { ADMIN_BODY_MAX, ADMIN_CONNECTIONS_MAX } from '#strake/admin/limits.js';
import { AdminWorld, type Asking } from '../support/admin-world.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { scratchFolder } from '../support/scratch.js';

const VOLUME = { name: 'db', sizeBytes: 1 << 24, layout: 'mirror', copies: 2 };
const CREATE = { method: 'POST', path: '/v1/volumes' } as const;

async function served(admin: AdminWorld): Promise<void> {
  const { status, body } = await admin.ask({ path: '/v1/volumes' });
  assert.equal([status, body.volumes, admin.bugs], [200, [], []]);
}

async function refused(attacks: readonly (readonly [string, Asking, number, RegExp])[]): Promise<void> {
  const admin = await AdminWorld.open();
  for (const [what, asking, status, words] of attacks) {
    const answer = await admin.ask(asking);
    assert.is(answer.status, status, `${what}: ${answer.text}`);
    assert.match(answer.text, words, what);
    assert.is(answer.body.schema, 'strake.error', what);
  }
  await served(admin);
  await admin.close();
}

check('whoever does not have the token may do nothing', async () => {
  const admin = await AdminWorld.open();
  const { token } = admin;
  const wrong: readonly (readonly [string, Record<string, string>, string])[] = [
    ['no token', {}, ''],
    ['an empty one', { authorization: 'Bearer ' }, ''],
    ['another one', { authorization: `Bearer ${'0'.repeat(64)}` }, ''],
    ['its beginning', { authorization: `Bearer ${token.slice(0, -1)}` }, ''],
    ['more than it', { authorization: `Bearer ${token}0` }, ''],
    ['it in capitals', { authorization: `Bearer ${token.toUpperCase()}x` }, ''],
    ['another scheme', { authorization: `Basic ${Buffer.from(`admin:${token}`).toString('base64')}` }, ''],
    ['no scheme', { authorization: token }, ''],
    ['it twice', { authorization: `Bearer ${token}, Bearer ${token}` }, ''],
    ['it in the query', {}, `?token=${token}`],
    ['it in a cookie', { cookie: `token=${token}` }, ''],
    ['it in another header', { 'x-token': token }, ''],
    ['the roles of somebody else', { 'x-forwarded-user': 'admin', 'x-role': 'admin' }, ''],
  ];
  for (const [what, headers, query] of wrong) {
    for (const path of ['/v1/cluster', '/v1/volumes', '/metrics', '/openapi.json', '/nowhere']) {
      const { status, body, headers: told } = await admin.ask({ path: `${path}${query}`, headers, bare: true });
      assert.equal([status, body.code], [401, 'ERR_STRAKE_NO_PERMISSION'], `${what} at ${path}`);
      assert.is(told['www-authenticate'], 'Bearer');
    }
    const made = await admin.ask({ ...CREATE, path: `/v1/volumes${query}`, headers, body: VOLUME, bare: true });
    assert.is(made.status, 401, what);
  }
  await served(admin);
  await admin.close();
});

check('requests that are meant for another server, or come from a page of one, are refused', async () => {
  const admin = await AdminWorld.open();
  const { address } = admin.server;
  const port = 'port' in address ? address.port : 0;
  for (const host of [
    'evil.example',
    `evil.example:${port}`,
    '127.0.0.1',
    `127.0.0.1:${port + 1}`,
    `localhost.evil.example:${port}`,
  ]) {
    for (const path of ['/v1/cluster', '/livez', '/metrics']) {
      const { status, body } = await admin.ask({ path, headers: { host } });
      assert.equal([status, body?.code], [403, 'ERR_STRAKE_NO_PERMISSION'], `${host} at ${path}`);
    }
  }
  for (const origin of [
    'http://evil.example',
    'null',
    `https://localhost:${port}`,
    `http://localhost:${port}.evil.example`,
    'http://localhost',
  ]) {
    const { status } = await admin.ask({ ...CREATE, headers: { origin }, body: VOLUME });
    assert.is(status, 403, origin);
  }
  for (const host of [`localhost:${port}`, `LOCALHOST:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`]) {
    assert.is((await admin.ask({ headers: { host } })).status, 200, host);
  }
  assert.is((await admin.ask({ headers: { origin: `http://localhost:${port}` } })).status, 200);
  await served(admin);
  await admin.close();
});

const text = (given: string): Asking => ({ ...CREATE, text: given });
const json = (changes: string) => text(`{"name":"db","sizeBytes":4096,"layout":"mirror","copies":2${changes}}`);

check('bodies that are none, or have other keys and values than they should, are refused', async () => {
  await refused([
    ['no JSON', text('{]'), 400, /JSON/],
    ['half of it', text('{"name":"db"'), 400, /JSON/],
    ['nothing', text(''), 400, /empty|must be object|JSON/],
    ['a list', text('[]'), 400, /must be object/],
    ['null', text('null'), 400, /must be object/],
    ['a text', text('"x"'), 400, /must be object/],
    ['a missing key', text('{"name":"db"}'), 400, /must have required property 'sizeBytes'/],
    ['a key that is not known', json(',"more":1'), 400, /must NOT have additional properties/],
    ['a key of all objects', json(',"__proto__":{"x":1}'), 400, /JSON|prototype/i],
    ['the same in other letters', json(',"\\u005f_proto__":{"x":1}'), 400, /JSON|prototype/i],
    ['a constructor', json(',"constructor":{"prototype":{"x":1}}'), 400, /JSON|additional/i],
    [
      '2^53 + 1',
      text('{"name":"db","sizeBytes":9007199254740993,"layout":"mirror","copies":2}'),
      400,
      /must be <= 9007199254740991/,
    ],
    [
      'a number that is none',
      text('{"name":"db","sizeBytes":1e999,"layout":"mirror","copies":2}'),
      400,
      /must be|integer/,
    ],
    ['half a byte', text('{"name":"db","sizeBytes":0.5,"layout":"mirror","copies":2}'), 400, /must be integer/],
    ['less than nothing', text('{"name":"db","sizeBytes":-1,"layout":"mirror","copies":2}'), 400, /must be >= 0/],
    ['a number as text', text('{"name":"db","sizeBytes":"4096","layout":"mirror","copies":2}'), 400, /must be integer/],
    [
      'true as a number',
      text('{"name":"db","sizeBytes":4096,"layout":"mirror","copies":true}'),
      400,
      /must be integer/,
    ],
    ['a list as a text', text('{"name":["db"],"sizeBytes":4096,"layout":"mirror","copies":2}'), 400, /must be string/],
    ['another layout', text('{"name":"db","sizeBytes":4096,"layout":"raid5","copies":2}'), 400, /must be/],
    ['too many copies', text('{"name":"db","sizeBytes":4096,"layout":"mirror","copies":4}'), 400, /must be <= 3/],
    [
      'a name that is too long',
      text(`{"name":"${'x'.repeat(256)}","sizeBytes":4096,"layout":"mirror","copies":2}`),
      400,
      /more than 255/,
    ],
    [
      'a name that is none',
      text('{"name":"a\\r\\nset-cookie: x","sizeBytes":16777216,"layout":"mirror","copies":2}'),
      400,
      /letters, digits/,
    ],
    ['an id that is none', json(',"volumeId":"../x"'), 400, /must match pattern/],
    ['too many nodes', json(`,"on":[${'"a",'.repeat(256)}"a"]`), 400, /more than 256/],
    ['deep JSON', text(`${'['.repeat(30_000)}${']'.repeat(30_000)}`), 400, /must be object/],
    ['deep keys', json(`,"on":${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`), 400, /must be array/],
    ['a giant', text(JSON.stringify({ ...VOLUME, name: 'x'.repeat(ADMIN_BODY_MAX) })), 413, /too large/],
    [
      'another type',
      { ...CREATE, text: 'name=db', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
      415,
      /Unsupported Media Type/,
    ],
    [
      'plain text, as forms of pages send it',
      { ...CREATE, text: JSON.stringify(VOLUME), headers: { 'content-type': 'text/plain' } },
      415,
      /Unsupported Media Type/,
    ],
  ]);
  assert.is(({} as { x?: number }).x, undefined);
});

check('paths, queries and methods that there are not are refused', async () => {
  const long = 'v'.repeat(2000);
  await refused([
    ['another path', { path: '/v2/volumes' }, 404, /there is no GET/],
    ['a path upwards', { path: '/v1/volumes/../../etc/passwd' }, 404, /there is no/],
    ['a file', { path: '/v1/volumes/%2e%2e%2f%2e%2e%2fetc%2fpasswd' }, 404, /there is no volume/],
    ['a zero byte', { path: '/v1/volumes/a%00b' }, 404, /there is no volume/],
    ['what cannot be read', { path: '/v1/volumes/%zz' }, 400, /not a valid url|Bad|path/i],
    ['a name that is too long', { path: `/v1/volumes/${long}` }, 414, /v{200}/],
    ['a property of all objects', { path: '/v1/volumes/__proto__' }, 404, /there is no volume/],
    ['another method', { method: 'PUT', path: '/v1/volumes', body: VOLUME }, 404, /there is no PUT/],
    ['a method of its own', { method: 'TRACE', path: '/v1/volumes' }, 404, /there is no TRACE/],
    ['a key of the query that is not known', { path: '/v1/volumes?all=1' }, 400, /must NOT have additional properties/],
    ['a number with a sign', { path: '/v1/events?after=-1' }, 400, /must match pattern/],
    ['a number that is too long', { path: '/v1/events?after=9007199254740993' }, 400, /must match pattern/],
    ['a number twice', { path: '/v1/events?after=1&after=2' }, 400, /must be string/],
    [
      'a property of all objects in the query',
      { path: '/v1/events?__proto__=1' },
      400,
      /must NOT have additional|proto/,
    ],
    [
      'two changes at a time',
      { method: 'PATCH', path: '/v1/volumes/db', body: { name: 'x', sizeBytes: 4096 } },
      400,
      /more than 1/,
    ],
    ['no change', { method: 'PATCH', path: '/v1/volumes/db', body: {} }, 400, /fewer than 1/],
  ]);
});

/** Sends bytes, and resolves to what has come back when the connection has ended. */
function spoken(socket: Socket, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    let heard = '';
    socket.on('data', (part) => {
      heard += part.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(heard));
    socket.write(bytes);
  });
}

check('what is no HTTP, or two requests in one, is refused, and ends the connection', async () => {
  const admin = await AdminWorld.open();
  const { address } = admin.server;
  const host = `Host: localhost:${'port' in address ? address.port : ''}\r\nAuthorization: Bearer ${admin.token}\r\n`;
  const attacks: readonly (readonly [string, string])[] = [
    ['garbage', 'STKW\0\0\0\0\r\n\r\n'],
    ['a header that is too long', `GET /v1/cluster HTTP/1.1\r\n${host}X: ${'x'.repeat(20_000)}\r\n\r\n`],
    ['too many headers', `GET /v1/cluster HTTP/1.1\r\n${host}${'X: y\r\n'.repeat(6000)}\r\n`],
    ['two lengths', `POST /v1/volumes HTTP/1.1\r\n${host}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`],
    [
      'a length and chunks',
      `POST /v1/volumes HTTP/1.1\r\n${host}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['a length that is none', `POST /v1/volumes HTTP/1.1\r\n${host}Content-Length: -1\r\n\r\n`],
    ['no host', `GET /v1/cluster HTTP/1.1\r\nAuthorization: Bearer ${admin.token}\r\n\r\n`],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ];
  for (const [what, bytes] of attacks) {
    const heard = await spoken(admin.socket(), bytes);
    assert.match(heard, /^HTTP\/1\.1 4\d\d |^$/, `${what}: ${heard.slice(0, 80)}`);
    assert.not.match(heard, /HTTP\/1\.1 2\d\d/, what);
  }
  await served(admin);
  await admin.close();
});

check('connections that come in crowds, say nothing or go amid a request keep nothing from others', async () => {
  const admin = await AdminWorld.open();
  const { address } = admin.server;
  const host = `Host: localhost:${'port' in address ? address.port : ''}\r\n`;
  const crowd = Array.from({ length: 3 * ADMIN_CONNECTIONS_MAX }, () => admin.socket());
  const ended = crowd.map(
    (socket) =>
      new Promise<void>((resolve) => {
        socket.on('error', () => {});
        socket.on('close', () => resolve());
      }),
  );
  // More than may be are not kept.
  await Promise.race([Promise.all(ended.slice(ADMIN_CONNECTIONS_MAX)), Promise.all(ended.slice(0, 1))]);
  crowd.forEach((socket, at) => {
    if (at % 2 === 0) socket.write(`POST /v1/volumes HTTP/1.1\r\n${host}Content-Length: 1000\r\n\r\n{"name"`);
    socket.destroy();
  });
  await Promise.all(ended);
  await served(admin);
  await admin.close();
});

check('closing ends connections that say nothing', async () => {
  const admin = await AdminWorld.open();
  const socket = admin.socket();
  const closed = new Promise<void>((resolve) => {
    socket.on('error', () => {});
    socket.on('close', () => resolve());
  });
  await new Promise((resolve) => socket.once('connect', resolve));
  socket.write('GET /v1/cluster HTTP/1.1\r\n');
  await admin.close();
  await closed;
});

check('a token that others could read, or that is none, is refused, and is never shown', async () => {
  const folder = scratchFolder();
  const file = join(folder, 'admin.token');
  const token = adminToken(file);
  assert.match(token, /^[0-9a-f]{64}$/);
  assert.is(adminToken(file), token);
  for (const mode of [0o640, 0o604, 0o660, 0o644]) {
    chmodSync(file, mode);
    const { message } = await failure(
      'NO_PERMISSION',
      Promise.resolve().then(() => adminToken(file)),
      /others than its owner/,
    );
    assert.not.ok(message.includes(token));
  }
  rmSync(file);
  for (const content of ['', 'short', `${token}${token}`, 'g'.repeat(64)]) {
    writeFileSync(file, content, { mode: 0o600 });
    const { message } = await failure(
      'INVALID_ARGUMENT',
      Promise.resolve().then(() => adminToken(file)),
      /is not the token/,
    );
    assert.not.ok(content !== '' && message.includes(content));
    rmSync(file);
  }
  mkdirSync(file);
  await failure(
    'INVALID_ARGUMENT',
    Promise.resolve().then(() => adminToken(file)),
    /no regular file/,
  );
  rmSync(file, { recursive: true });
  symlinkSync(join(folder, 'nowhere'), file);
  await failure(
    'EXISTS',
    Promise.resolve().then(() => adminToken(file)),
    /is not written over/,
  );
});

run();
