/** Lists that are longer than one answer, and many volumes through every command, with a manager behind the wire. */

import * as assert from 'uvu/assert';
import { foundCluster } from '#strake/manager/found.js';
import { Manager } from '#strake/manager/manager.js';
import type { VolumeListed } from '#strake/ports/manager.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { LIST_PAGE_BYTES } from '#strake/wire/limits.js';
import { allPages, pageAfter } from '#strake/wire/list-pages.js';
import { answering, CallWorld, KEY_SEED, scriptedCalls } from '../support/call-world.js';
import { check, repetitions, run } from '../support/check.js';
import { FakeStorageNode, idOf, MemoryMetaStore } from '../support/manager-world.js';
import { CLUSTER_ID } from '../support/sim-store.js';

const VOLUMES = repetitions(1000, 200);
const CLIENT = 'e'.repeat(32);
const numbered = (number: number) => (number + 1).toString(16).padStart(32, '0');

check('a list is told whole, whatever it is in pages of', async () => {
  const all = Array.from({ length: 50 }, (_, number) => ({
    id: numbered(number),
    text: 'x'.repeat(LIST_PAGE_BYTES / 8),
  }));
  const mixed = [...all].reverse();
  let asked = 0;
  const told = await allPages(
    async (after) => {
      asked += 1;
      const page = pageAfter(mixed, ({ id }) => id, after);
      assert.ok(JSON.stringify(page).length < 2 * LIST_PAGE_BYTES);
      return page;
    },
    ({ id }) => id,
  );
  assert.equal(told, all);
  assert.is(asked, 7);
  assert.equal(
    pageAfter([], () => '', undefined),
    { list: [], more: false },
  );
  const [large] = [{ id: numbered(1), text: 'x'.repeat(3 * LIST_PAGE_BYTES) }];
  assert.equal(
    pageAfter([large], ({ id }) => id),
    { list: [large], more: false },
    'one is told at least',
  );
});

check('more volumes are told than go into one answer', async () => {
  const world = new CallWorld(1);
  const groups: VolumeListed['groups'] = Array.from({ length: 512 }, (_, group) => ({
    ...{ group, mapVersion: 2 ** 33, base: 2 ** 33 },
    members: ['a', 'b', 'c'].map((name) => ({
      ...{ deviceId: idOf(name), nodeName: name, state: 'in-sync' as const, answered: 2 ** 33 },
    })),
  }));
  // More than all the parts that an answer may have.
  const volumes = Array.from(
    { length: 160 },
    (_, number): VolumeListed => ({
      ...{
        volumeId: numbered(number),
        name: `v${number}`,
        sizeBytes: 1 << 30,
        createdMs: 1,
        layout: 'mirror',
        copies: 3,
      },
      ...{
        generation: 1,
        holder: CLIENT,
        lease: 'exclusive',
        janitor: false,
        holderSilentMs: 1,
        blocked: null,
        jobs: [],
        readers: [],
      },
      groups,
    }),
  );
  assert.ok(JSON.stringify(volumes).length > 16 << 20);
  const { calls, asked } = answering({ volumes: () => volumes });
  world.serve(calls);
  const session = world.connect();
  assert.equal(await world.settle(session.volumes()), volumes);
  assert.ok(asked.length > 16);
  session.close();
});

check('many volumes go through every command', async () => {
  const world = new CallWorld(2);
  const store = new MemoryMetaStore();
  await foundCluster(store, { clusterId: CLUSTER_ID });
  let manager: Manager | null = null;
  const serving = world.prepare(
    scriptedCalls((name, ...given) => {
      if (manager === null) throw new Error('there is no manager yet');
      return (manager[name] as (...all: never[]) => Promise<unknown>).call(manager, ...given);
    }),
  );
  const { process } = serving;
  manager = await world.settle(
    Manager.open({
      ...{ store, clock: process, completions: process, key: new SimKey(KEY_SEED, new SimRandom(1)) },
      ...{ wallNowMs: () => 1, onStepDown: (error) => assert.unreachable(error.message) },
    }),
  );
  serving.listen();
  const session = world.connect();
  const ask = <T>(promise: Promise<T>) => world.settle(promise);
  const nodes = ['a', 'b'].map((name) => new FakeStorageNode(name, 2));
  for (const { members } of nodes) {
    for (const member of members) {
      const report = member.report.bind(member);
      member.report = () => ({ ...report(), replicasFree: 2 * VOLUMES });
    }
  }
  for (const node of nodes) await ask(node.register(session as unknown as Manager, CLUSTER_ID));
  const ids = Array.from({ length: VOLUMES }, (_, number) => numbered(number));
  const names = ids.map((_, number) => `${'volume-'.repeat(3)}${number}`);
  await ask(
    Promise.all(
      ids.map((volumeId, at) => {
        const about = { volumeId, name: names[at], sizeBytes: 1 << 24, layout: 'mirror' as const };
        return session.create({ ...about, copies: 2, on: [] });
      }),
    ),
  );
  const listed = await ask(session.volumes());
  assert.equal(
    listed.map(({ name }) => name),
    names,
  );
  assert.is((await ask(session.devices())).length, 4);
  const all = <T>(each: (name: string, at: number) => Promise<T>) => ask(Promise.all(names.map(each)));
  const attached = await all((volume) => session.attach({ volume, clientId: CLIENT, takeOver: false }));
  const holds = ids.map((volumeId) => ({ volumeId, generation: 1, serves: true }));
  assert.equal((await ask(session.renew({ clientId: CLIENT, holds }))).lost, []);
  // What members have answered their nodes tell.
  const byDevice = new Map(nodes.flatMap(({ members }) => members.map((member) => [member.deviceId, member])));
  for (const map of attached.flatMap(({ maps }) => maps)) {
    for (const { deviceId } of map.members) byDevice.get(deviceId)?.store(map);
  }
  for (const node of nodes) await ask(node.beat(session as unknown as Manager));
  const answered = await ask(session.volumes());
  assert.ok(answered.every(({ groups }) => groups.every(({ base, mapVersion }) => base === mapVersion)));
  assert.equal((await all((volume) => session.fetch(volume))).length, VOLUMES);
  await all((_, at) => session.detach({ clientId: CLIENT, volumeId: ids[at], maps: attached[at].maps }));
  await all((volume) => session.grow(volume, 1 << 25));
  await all((volume, at) => session.rename(volume, `w${at}`));
  const changed = await ask(session.volumes());
  assert.ok(
    changed.every(({ name, sizeBytes, lease }) => /^w\d+$/.test(name) && sizeBytes === 1 << 25 && lease === 'released'),
  );
  let events = 0;
  for (let after = 0; ; ) {
    const page = await ask(session.events(after));
    if (page.length === 0) break;
    events += page.length;
    after = page[page.length - 1].number;
  }
  assert.ok(events >= Math.min(4000, 4 * VOLUMES), String(events));
  await all((_, at) => session.delete(`w${at}`));
  assert.equal(await ask(session.volumes()), []);
  session.close();
});

run();
