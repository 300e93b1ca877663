/**
 * Calls of a manager over the wire, in a simulated network: each of them arrives as it was asked and is answered as it was
 * answered, whatever becomes of connections meanwhile, and none is carried out twice unnoticed.
 */

import * as assert from 'uvu/assert';
import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import { StrakeError } from '#strake/core/errors.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { authenticateMap } from '#strake/wire/maps.js';
import { answering, CallWorld, KEY_SEED } from '../support/call-world.js';
import { check, run } from '../support/check.js';
import { MAP } from '../support/wire-examples.js';

const KEY = new SimKey(KEY_SEED, new SimRandom(1));
const CLIENT = 'e'.repeat(32);
const DECIDED = authenticateMap({ ...MAP, holder: CLIENT }, KEY);
const PLACES = [{ deviceId: 'a'.repeat(32), nodeId: 'b'.repeat(32), addresses: ['/run/node.sock'] }];
const STATUS = {
  ...{ clusterId: 'c'.repeat(32), epoch: 1, sequence: 77, times: DEFAULT_TIMES, deciding: true, awaited: ['far'] },
};

check('calls are answered', async () => {
  const world = new CallWorld(1);
  const { calls, asked } = answering({
    status: () => STATUS,
    fetch: () => ({ maps: [DECIDED], devices: PLACES }),
    delete: () => undefined,
  });
  const { service } = world.serve(calls);
  const session = world.connect();
  assert.equal(await world.settle(session.status()), STATUS);
  assert.equal(await world.settle(session.fetch('db')), { maps: [DECIDED], devices: PLACES });
  await world.settle(session.delete('db'));
  assert.equal(asked, [['status'], ['fetch', 'db'], ['fetch', 'db'], ['delete', DECIDED.volume.id]]);
  assert.equal(
    world.states.map(({ connected }) => connected),
    [true],
  );
  session.close();
  await world.pause(100_000);
  assert.equal(service.usage(), { connections: 0, buffers: 0 });
});

check('an error is told with its name, its words and its remedy', async () => {
  const world = new CallWorld(2);
  const { calls } = answering({
    fetch: () => {
      throw new StrakeError('NO_VOLUME', 'there is no volume db', { remedy: 'Make one.' });
    },
  });
  world.serve(calls);
  const error = await world.settle(
    world
      .connect()
      .fetch('db')
      .catch((thrown: StrakeError) => thrown),
  );
  assert.instance(error, StrakeError);
  const { code, message, remedy } = error as StrakeError;
  assert.equal([code, message, remedy], ['ERR_STRAKE_NO_VOLUME', 'there is no volume db', 'Make one.']);
});

run();
