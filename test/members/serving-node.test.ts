/** A node that serves the segments of its devices leaves volumes to others, whatever happens to its devices. */

import * as assert from 'uvu/assert';
import { makeClusterKey } from '#strake/keys/cluster-key.js';
import { check, run } from '../support/check.js';
import { formatAll, NodeProcess, NodeProcessError } from '../support/node-process.js';
import { scratchFile, scratchFolder, socketPath } from '../support/scratch.js';

const MIB = 1 << 20;

/** The code of the error with which a call ends. */
async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof NodeProcessError) return error.code;
    throw error;
  }
  return '';
}

check('a device that joins later is served, and starts no volumes; one that is in use does not go', async () => {
  const [near, far, late] = [scratchFile(32 * MIB), scratchFile(32 * MIB), scratchFile(32 * MIB)];
  const [, farId, lateId] = await formatAll([near, far, late]);
  // A volume of its own, as of a node that served no segments then.
  const alone = await NodeProcess.start({ devices: [late] });
  await alone.call('createVolume', { name: 'own', sizeBytes: 4 * MIB });
  await alone.close();
  const keyFile = `${scratchFolder()}/key`;
  makeClusterKey(keyFile);
  const segments = { socket: socketPath() };
  const serving = await NodeProcess.start({ devices: [far], network: { keyFile, segments } });
  await serving.call('addDevice', late);
  assert.equal((await serving.status()).volumes, [], 'it hosts nothing');
  assert.is(await codeOf(serving.call('createVolume', { name: 'more', sizeBytes: MIB })), 'ERR_STRAKE_UNAVAILABLE');

  const node = await NodeProcess.start({ devices: [near], network: { keyFile, peers: [segments] } });
  await node.call('createVolume', { name: 'main', sizeBytes: 4 * MIB, layout: 'mirror' });
  await node.reach('main', 'ok');
  const used = (await node.status()).volumes[0].groups[0].map(({ deviceId }) => deviceId);
  const [remote, spare] = used.includes(farId) ? [farId, lateId] : [lateId, farId];
  assert.is(await codeOf(serving.call('removeDevice', remote)), 'ERR_STRAKE_VOLUME_BUSY');
  await serving.call('removeDevice', spare);
  await node.close();
  await serving.call('removeDevice', remote);
  await serving.close();
});

run();
