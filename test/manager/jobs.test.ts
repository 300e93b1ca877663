/** Jobs that bring members up to date, as a manager keeps them: begun and ended durably, and told as far as they are known. */

import * as assert from 'uvu/assert';
import { memberInSync, memberOffline, memberSyncing } from '#strake/layout/map-changes.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { check, run } from '../support/check.js';
import { idOf, ManagerWorld } from '../support/manager-world.js';
import { changeOf, decided } from '../support/map-requests.js';

const SINCE = { generation: 1, flushNumber: 3 };
const VOLUME = idOf('v');

interface Resync {
  readonly world: ManagerWorld;
  /** The newest map, in which the first member is being brought up to date. */
  readonly map: ReplicaMap;
  readonly deviceId: string;
}

async function change(world: ManagerWorld, map: ReplicaMap, make: Parameters<typeof changeOf>[2]): Promise<ReplicaMap> {
  const next = decided(await world.settle(world.manager.change(changeOf('one', map, make))));
  await world.bring([next]);
  return next;
}

async function resync(): Promise<Resync> {
  const world = await ManagerWorld.begin([1, 1]);
  await world.bring((await world.create('v', 2)).maps);
  const [attached] = (await world.attach('v', 'one')).maps;
  await world.bring([attached]);
  const out = await change(world, attached, (v) => memberOffline(v, 0, 0, SINCE));
  const map = await change(world, out, (v) => memberSyncing(v, 0, 0, 1, false));
  return { world, map, deviceId: map.members[0].deviceId };
}

/** The holder tells of its job. */
async function tell({ world, map, deviceId }: Resync, bytesDone: number, changes: object = {}): Promise<void> {
  const { joined } = map.members[0];
  const job = { volumeId: VOLUME, group: 0, deviceId, kind: 'resync', joined, bytesDone, bytesTotal: 1000, ...changes };
  const holds = [{ volumeId: VOLUME, generation: map.generation, serves: true }];
  await world.settle(world.manager.renew({ clientId: idOf('one'), holds, jobs: [job] }));
}

async function jobsOf(world: ManagerWorld) {
  const [volume] = await world.settle(world.manager.volumes());
  return volume.jobs;
}

const kindsOf = async (world: ManagerWorld) =>
  (await world.settle(world.manager.events(0))).map(({ kind }) => kind).filter((kind) => kind.startsWith('job-'));

check('a job is told with how far it has come, and ends when its member is promoted', async () => {
  const found = await resync();
  const { world, map, deviceId } = found;
  assert.is((await jobsOf(world))[0].bytesDone, null);
  await tell(found, 0);
  await tell(found, 400);
  const [job] = await jobsOf(world);
  assert.equal([job.deviceId, job.kind, job.bytesDone, job.bytesTotal], [deviceId, 'resync', 400, 1000]);
  assert.is(job.joined, map.members[0].joined);
  await change(world, map, (v) => memberInSync(v, 0, 0, { incarnation: 1, flushNumber: 9 }));
  assert.equal(await jobsOf(world), []);
  assert.equal(await kindsOf(world), ['job-began', 'job-ended']);
});

check('that a job goes on is durable, how far it is not; and it is gone when it has ended', async () => {
  const found = await resync();
  const { world, map } = found;
  await tell(found, 400);
  await world.restart();
  await world.registerAll();
  const [job] = await jobsOf(world);
  assert.equal([job.bytesDone, job.bytesTotal], [null, null]);
  await tell(found, 500);
  assert.is((await jobsOf(world))[0].bytesDone, 500);
  await change(world, map, (v) => memberOffline(v, 0, 0, SINCE));
  await world.restart();
  await world.registerAll();
  assert.equal(await jobsOf(world), []);
  assert.equal(await kindsOf(world), ['job-began', 'job-failed']);
});

check('a job ends with the generation in which it began, and with its volume', async () => {
  const taken = await resync();
  await tell(taken, 10);
  await taken.world.attach('v', 'two', true);
  assert.equal(await kindsOf(taken.world), ['job-began', 'job-failed', 'job-began']);
  assert.is((await jobsOf(taken.world))[0].bytesDone, null, 'it is another one');
  const released = await resync();
  await tell(released, 10);
  const { world, map } = released;
  await world.settle(world.manager.detach({ clientId: idOf('one'), volumeId: VOLUME, maps: [map] }));
  assert.equal(await kindsOf(world), ['job-began', 'job-failed']);
});

check('a job goes on when the volume gets another name', async () => {
  const found = await resync();
  await tell(found, 10);
  await found.world.settle(found.world.manager.rename('v', 'w'));
  assert.is((await jobsOf(found.world))[0].bytesDone, 10);
  assert.equal(await kindsOf(found.world), ['job-began']);
});

check('nothing is believed of jobs that are not of the holder, or of another map', async () => {
  const found = await resync();
  const { world, map, deviceId } = found;
  const [, other] = map.members;
  for (const changes of [{ joined: 1 }, { deviceId: other.deviceId }, { group: 7 }, { volumeId: idOf('w') }]) {
    await tell(found, 10, changes);
  }
  const job = { volumeId: VOLUME, group: 0, deviceId, kind: 'resync', joined: map.members[0].joined };
  const jobs = [{ ...job, bytesDone: 1, bytesTotal: 2 }];
  await world.settle(world.manager.renew({ clientId: idOf('stranger'), holds: [], jobs }));
  assert.equal(
    (await jobsOf(world)).map((one) => one.bytesDone),
    [null],
  );
  await tell(found, 20, { kind: 'pull' });
  const [pulled] = await jobsOf(world);
  assert.equal([pulled.kind, pulled.bytesDone], ['pull', 20]);
  assert.equal(await kindsOf(world), ['job-began']);
});

run();
