/** Processes of a cluster that are told to stop when everybody else is gone: they end in time, and say what is not done. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { ClusterProcesses } from '../support/cluster-processes.js';

check('a client that is told to stop when nodes and manager are gone ends, and says what was not flushed', async () => {
  const cluster = await ClusterProcesses.start();
  await cluster.addNodes('a', 'b');
  await cluster.ask(['volume', 'create', 'v', '--size', '8M', '--layout', 'mirror:2', '--on', 'a,b']);
  const served = await cluster.export('v');
  const nbd = await served.connect();
  await nbd.write(0, Buffer.alloc(4096, 7));
  await Promise.all([cluster.managerProcess?.kill(), ...['a', 'b'].map((name) => cluster.node(name).process.kill())]);
  const write = nbd.write(4096, Buffer.alloc(4096, 8)).catch(() => {});
  served.process.child.kill('SIGTERM');
  const { code, stderr } = await served.process.ended;
  await write;
  assert.is(code, 4);
  assert.match(
    stderr,
    /volume v could not be flushed when it was closed .* what was written since its last flush may be lost/,
  );
  assert.not(/everything acknowledged/.test(stderr));
});

check('a node that is told to stop when the manager, its peer and the client are gone ends in order', async () => {
  const cluster = await ClusterProcesses.start();
  await cluster.addNodes('a', 'b');
  await cluster.ask(['volume', 'create', 'v', '--size', '8M', '--layout', 'mirror:2', '--on', 'a,b']);
  const served = await cluster.export('v');
  const nbd = await served.connect();
  await nbd.write(0, Buffer.alloc(4096, 7));
  await Promise.all([cluster.node('b').process.kill(), served.process.kill()]);
  await cluster.managerProcess?.kill();
  const { code, stderr } = await cluster.node('a').process.stop();
  assert.is(code, 0, stderr);
});

run();
