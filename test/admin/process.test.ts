/** The admin API of a manager that runs as a process: beside it, for as long as it lives. */

import { existsSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { type Serving, serving } from '../support/cluster-processes.js';
import { scratchFolder } from '../support/scratch.js';
import { strake } from '../support/strake.js';

function get({ data }: Serving, path: string, token?: string): Promise<{ status: number; text: string }> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const [, host, port] = /^(.*):(\d+)$/.exec(String(data.admin)) ?? [];
  const where = port === undefined ? { socketPath: String(data.admin) } : { host, port: Number(port) };
  return new Promise((resolve, reject) => {
    request({ ...where, path, headers, agent: false }, (response) => {
      let text = '';
      response.on('data', (part: Buffer) => {
        text += part.toString();
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    })
      .on('error', reject)
      .end();
  });
}

check('a manager that is started has its admin API beside it, on a socket or a port', async () => {
  const folder = join(scratchFolder(), 'manager');
  assert.is((await strake(['cluster', 'init', folder])).code, 0);
  let before = '';
  for (const more of [[], ['--admin', '127.0.0.1:0']]) {
    const manager = await serving(['manager', 'start', folder, ...more]);
    const token = readFileSync(join(folder, 'admin.token'), 'utf8').trim();
    if (before !== '') assert.is(token, before, 'the token stays');
    before = token;
    const { status, text } = await get(manager, '/v1/cluster', token);
    assert.is(status, 200, text);
    assert.is(JSON.parse(text).cluster.clusterId, manager.data.clusterId);
    assert.is((await get(manager, '/readyz')).status, 200);
    assert.is((await get(manager, '/v1/cluster')).status, 401);
    const { code, stderr } = await manager.stop();
    assert.is(code, 0, stderr);
    assert.not.ok(existsSync(join(folder, 'admin.sock')), 'the socket is gone');
  }
});

check('a cluster that is run as a whole has the admin API of its manager, in one process and in several', async () => {
  const folder = join(scratchFolder(), 'whole');
  for (const more of [[], ['--processes']]) {
    const cluster = await serving(['up', folder, '--nodes', '1', '--device-size', '96M', ...more]);
    const { clusterId, tokenFile } = cluster.data;
    const { status, text } = await get(cluster, '/v1/nodes', readFileSync(String(tokenFile), 'utf8').trim());
    assert.is(status, 200, text);
    assert.equal(
      JSON.parse(text).nodes.map(({ name }: { name: string }) => name),
      ['n1'],
    );
    assert.is((await get(cluster, '/livez')).status, 200);
    assert.is((await get(cluster, '/v1/nodes', String(clusterId))).status, 401);
    assert.is((await cluster.stop()).code, 0);
    assert.not.ok(existsSync(String(cluster.data.admin)), 'the socket is gone');
  }
});

check('an address that others reach is refused, and no manager runs', async () => {
  const folder = join(scratchFolder(), 'lonely');
  assert.is((await strake(['cluster', 'init', folder])).code, 0);
  const line = ['manager', 'start', folder, '--admin', '10.0.0.1:7000', '--insecure-network'];
  const { code, stderr } = await strake(line);
  assert.is(code, 2);
  assert.match(stderr, /the admin API does not listen on 10\.0\.0\.1:7000, which others reach/);
});

run();
