/**
 * Calls of a manager over the wire, in a simulated network: each arrives as it was asked and is answered as it was answered,
 * whatever becomes of connections and managers meanwhile; and nothing is decided twice because an answer was lost.
 */

import * as assert from 'uvu/assert';
import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import { StrakeError } from '#strake/core/errors.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { type CallName, callOf } from '#strake/wire/manager-calls.js';
import { authenticateMap } from '#strake/wire/maps.js';
import { CALL_NAMES } from '#strake/wire/messages.js';
import { callExamples } from '../support/call-examples.js';
import { answering, CallWorld, KEY_SEED, MANAGER_ADDRESS, scriptedCalls } from '../support/call-world.js';
import { check, repetitions, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { MAP } from '../support/wire-examples.js';

const KEY = new SimKey(KEY_SEED, new SimRandom(1));
const CLIENT = 'e'.repeat(32);
const DECIDED = authenticateMap({ ...MAP, holder: CLIENT }, KEY);
const NEWEST = { maps: [DECIDED], devices: [] };
const STATUS = {
  ...{ clusterId: 'c'.repeat(32), epoch: 1, sequence: 77, times: DEFAULT_TIMES, deciding: true, awaited: ['far'] },
};

/** Arguments of a call as a method has them, of what the wire has. */
function given(name: CallName, request: Record<string, unknown>): unknown[] {
  const values = Object.values(request);
  if (['fetch', 'delete', 'rename', 'grow', 'startWithout', 'adopt', 'giveBack', 'events'].includes(name))
    return values;
  return values.length === 0 ? [] : [request];
}

/** The answer of a method, of what the wire has. */
function answerOf(name: CallName, answer: Record<string, unknown>): unknown {
  if (name === 'adopt' || name === 'giveBack') return answer.maps;
  return name === 'delete' ? undefined : 'list' in answer ? answer.list : answer;
}

check('each call arrives as it was asked, and is answered as it was answered', async () => {
  const examples = callExamples(DECIDED);
  for (const name of CALL_NAMES) {
    const world = new CallWorld(1);
    const { request, answer } = examples[name] as unknown as Record<'request' | 'answer', Record<string, unknown>>;
    const wanted = answerOf(name, answer);
    const own = 'clientId' in request ? { ...request, clientId: CLIENT } : request;
    const { calls, asked } = answering({ fetch: () => NEWEST, [name]: () => wanted });
    const { service } = world.serve(calls);
    const session = world.connect();
    const method = (session as unknown as Record<string, (...given: unknown[]) => Promise<unknown>>)[name];
    assert.equal(await world.settle(method.apply(session, given(name, own))), wanted, name);
    assert.equal(asked.at(-1), [name, ...given(name, own)], name);
    session.close();
    await world.pause(100_000);
    assert.equal(service.usage(), { connections: 0, buffers: 0 }, name);
  }
  assert.is(callOf('status').answer.proven, true);
});

check('a call that waits hears that its connection is gone: a newer session comes in when it has ended', async () => {
  const world = new CallWorld(21);
  let end = (_: unknown): void => {};
  let wanted = (): boolean => false;
  let asked = 0;
  const calls = scriptedCalls(async (name, ...args: unknown[]) => {
    if (name !== 'change') return STATUS;
    wanted = args[1] as () => boolean;
    asked += 1;
    return new Promise((resolve) => {
      end = resolve;
    });
  });
  world.serve(calls);
  const session = world.connect();
  const { change } = callExamples(DECIDED);
  const lost = session.change({ ...(change.request as Parameters<typeof session.change>[0]), clientId: CLIENT });
  await world.pause(1000);
  assert.ok(wanted(), 'a call is on its way that nobody waits for');
  world.network.reset(world.clientHost, world.managerHost);
  await world.pause(1000);
  assert.not(wanted(), 'whoever carries a call out does not hear that its connection is gone');
  end(change.answer);
  // It is asked again by the next session.
  await world.settle(world.world.until(() => asked === 2));
  end(change.answer);
  assert.equal(await world.settle(lost), change.answer);
});

check('an error is told with its name, its words and its remedy', async () => {
  const world = new CallWorld(2);
  const thrown = new StrakeError('NO_VOLUME', 'there is no volume db', { remedy: 'Make one.' });
  world.serve(answering({ fetch: () => Promise.reject(thrown) }).calls);
  const { code, message, remedy } = await failure('NO_VOLUME', world.settle(world.connect().fetch('db')));
  assert.equal([code, message, remedy], ['ERR_STRAKE_NO_VOLUME', 'there is no volume db', 'Make one.']);
});

check('calls and answers that are long travel in parts, and in turns', async () => {
  const world = new CallWorld(3);
  const maps = Array.from({ length: 900 }, (_, group) => ({ ...MAP, group, groups: 900 }));
  const decided = maps.map((map) => authenticateMap(map, KEY));
  const event = { number: 1, timeMs: 2, kind: 'x', text: 'y'.repeat(500) };
  const list = Array.from({ length: 2000 }, (_, at) => ({ ...event, number: at }));
  const { calls } = answering({ adopt: () => decided, events: () => list, status: () => STATUS });
  const { service } = world.serve(calls);
  const session = world.connect();
  const answers = await world.settle(
    Promise.all([session.adopt(maps), session.events(1), session.status(), session.adopt(maps), session.events(2)]),
  );
  assert.equal(answers, [decided, list, STATUS, decided, list]);
  assert.is(service.usage().buffers, 0);
});

check('what is too long for a call or an answer is refused, and the session goes on', async () => {
  const world = new CallWorld(4);
  const event = { number: 1, timeMs: 2, kind: 'x', text: 'y'.repeat(500) };
  const { calls } = answering({ events: () => Array.from({ length: 40_000 }, () => event), status: () => STATUS });
  world.serve(calls);
  const session = world.connect();
  await failure('INVALID_ARGUMENT', world.settle(session.events(1)), /too long to be sent/);
  const maps = Array.from({ length: 7000 }, (_, group) => ({ ...MAP, group, groups: 7000 }));
  await failure('INVALID_ARGUMENT', world.settle(session.adopt(maps)), /too many for a call/);
  await failure('INVALID_ARGUMENT', world.settle(session.events(-1)), /after has to be a whole number/);
  assert.equal(await world.settle(session.status()), STATUS);
});

check('a call whose connection breaks is asked again, and each has its own answer', async () => {
  for (let seed = 1; seed <= repetitions(60, 12); seed += 1) {
    const world = new CallWorld(seed, seed % 4 === 0 ? 0.05 : 0);
    const random = new SimRandom(seed).fork('test');
    let answered = 0;
    const calls = scriptedCalls(async (_name, after: number) => {
      await world.pauseOnly(random.below(3000));
      return [{ number: after, timeMs: 0, kind: 'x', text: 'y'.repeat(1 + random.below(500)) }];
    });
    const { service } = world.serve(calls);
    const session = world.connect({ callMs: 120_000 });
    const asking = Array.from({ length: 60 }, async (_, after) => {
      const [event] = await session.events(after);
      assert.is(event.number, after);
      answered += 1;
    });
    const breaking = (async () => {
      while (answered < 60) {
        await world.pauseOnly(random.below(60_000));
        world.network.reset(world.clientHost, world.managerHost);
      }
    })();
    await world.settle(Promise.all([...asking, breaking]));
    session.close();
    await world.pause(5_000_000);
    assert.equal(service.usage(), { connections: 0, buffers: 0 }, `seed ${seed}`);
  }
});

check('a manager that dies and starts anew is asked again', async () => {
  const world = new CallWorld(5);
  const never = world.serve(scriptedCalls(() => new Promise(() => {})));
  const session = world.connect();
  const asked = session.status();
  await world.pause(300_000);
  never.process.kill();
  await world.pause(700_000);
  world.serve(answering({ status: () => STATUS }).calls);
  assert.equal(await world.settle(asked), STATUS);
  const connected = world.states.map((state) => state.connected);
  assert.equal([connected[0], connected[1], connected.at(-1)], [true, false, true]);
});

check('a change that has waited for a manager is not asked for when it is not wanted any more', async () => {
  const { authentication: _, ...map } = DECIDED;
  const asked = { clientId: CLIENT, volumeId: MAP.volume.id, group: 3, before: MAP.mapVersion, map: { ...map } };
  const world = new CallWorld(5);
  const session = world.connect();
  let isWanted = true;
  const change = session.change(asked, () => isWanted).catch((error: StrakeError) => error.code);
  await world.pause(300_000);
  isWanted = false;
  const { calls, asked: heard } = answering({ change: () => ({ kind: 'decided', map: DECIDED }) });
  world.serve(calls);
  assert.is(await world.settle(change), 'ERR_STRAKE_NO_MANAGER');
  isWanted = true;
  assert.is((await world.settle(session.change(asked, () => isWanted))).kind, 'decided');
  assert.is(heard.length, 1);
});

check('what was asked for on a connection that broke is over before it is asked again', async () => {
  const world = new CallWorld(16);
  const courses: string[] = [];
  const calls = scriptedCalls(async () => {
    courses.push('begins');
    await world.pauseOnly(1_500_000);
    courses.push('ends');
    return STATUS;
  });
  world.serve(calls);
  const asked = world.connect().status();
  for (const us of [300_000, 100_000, 700_000]) {
    await world.pause(us);
    world.network.reset(world.clientHost, world.managerHost);
  }
  assert.equal(await world.settle(asked), STATUS);
  assert.equal(courses, ['begins', 'ends', 'begins', 'ends']);
});

check('what would be something else if it were asked again is not, and says that nobody knows', async () => {
  const world = new CallWorld(6);
  let asked = 0;
  const calls = scriptedCalls(async () => {
    asked += 1;
    await world.pauseOnly(600_000);
    return { ...NEWEST, lost: [] };
  });
  world.serve(calls);
  const session = world.connect();
  const started = session.startWithout('db', []).catch((error: StrakeError) => error);
  await world.pause(300_000);
  world.network.reset(world.clientHost, world.managerHost);
  const { code, message } = (await world.settle(started)) as StrakeError;
  assert.is(code, 'ERR_STRAKE_NO_MANAGER');
  assert.match(message, /startWithout: whether it was done is not known/);
  await world.pause(2_000_000);
  assert.is(asked, 1);
});

check('a change whose answer was lost is decided if the newest map is what was asked for', async () => {
  const { authentication: _, ...map } = DECIDED;
  const asked = { clientId: CLIENT, volumeId: MAP.volume.id, group: 3, before: MAP.mapVersion, map: { ...map } };
  const member = (at: number, changes: object) =>
    map.members.map((one, i) => (i === at ? { ...one, ...changes } : one));
  const outcomes: readonly [string, Partial<ReplicaMap>, boolean][] = [
    ['as it was asked for', { mapVersion: MAP.mapVersion + 1 }, true],
    ['with what the manager adds', { mapVersion: MAP.mapVersion + 1, members: member(1, { joined: 99 }) }, true],
    ['the same version', {}, false],
    ['another holder', { mapVersion: MAP.mapVersion + 1, holder: 'f'.repeat(32) }, false],
    ['another generation', { mapVersion: MAP.mapVersion + 1, generation: 7 }, false],
    ['another lease', { mapVersion: MAP.mapVersion + 1, lease: 'released' }, false],
    ['another state', { mapVersion: MAP.mapVersion + 1, members: member(1, { state: 'offline' }) }, false],
    ['another device', { mapVersion: MAP.mapVersion + 1, members: member(1, { deviceId: 'f'.repeat(32) }) }, false],
    [
      'fewer members',
      {
        mapVersion: MAP.mapVersion + 1,
        volume: { ...MAP.volume, layout: 'single', copies: 1 },
        members: [map.members[0]],
      },
      false,
    ],
    ['another group', { mapVersion: MAP.mapVersion + 1, group: 4 }, false],
  ];
  for (const [what, changes, isDecided] of outcomes) {
    const world = new CallWorld(7);
    const newest = { maps: [authenticateMap({ ...MAP, holder: CLIENT, ...changes }, KEY)], devices: [] };
    world.serve(answering({ change: () => ({ kind: 'superseded', newest }) }).calls);
    const answer = await world.settle(world.connect().change(asked));
    assert.is(answer.kind, isDecided ? 'decided' : 'superseded', what);
  }
});

check('an attach names the generation before it, so that it can be asked again', async () => {
  const world = new CallWorld(8);
  const { calls, asked } = answering({ fetch: () => NEWEST, attach: () => NEWEST });
  world.serve(calls);
  await world.settle(world.connect().attach({ volume: 'db', clientId: CLIENT, takeOver: false }));
  assert.equal(asked.at(-1), ['attach', { volume: 'db', clientId: CLIENT, takeOver: false, above: 6 }]);
});

check('calls that nobody answers end in time, and say why', async () => {
  const world = new CallWorld(9);
  const session = world.connect({ callMs: 2000 });
  await failure('NO_MANAGER', world.settle(session.status()), /status: manager: it cannot be reached/);
  world.serve(scriptedCalls(() => new Promise(() => {})));
  await world.pause(1_000_000);
  await failure('NO_MANAGER', world.settle(session.status()), /whether it was done is not known/);
  // More than are sent at a time: those that were not sent say so.
  const errors = Array.from({ length: 40 }, () => session.status().catch(({ message }: StrakeError) => message));
  const messages = await world.settle(Promise.all(errors));
  assert.is(messages.filter((message) => /not known/.test(String(message))).length, 15);
});

check('a call whose time is over is not asked again', async () => {
  const world = new CallWorld(17);
  let asked = 0;
  world.serve(
    scriptedCalls(async () => {
      asked += 1;
      await world.pauseOnly(1_350_000);
      return STATUS;
    }),
  );
  const session = world.connect({ callMs: 1000 });
  await failure('NO_MANAGER', world.settle(session.status()));
  world.network.reset(world.clientHost, world.managerHost);
  await world.pause(10_000_000);
  assert.is(asked, 1);
});

check('managers are tried in turn, and one that answers is kept', async () => {
  const world = new CallWorld(10);
  const addresses = ['nowhere', 'manager', 'neither'].map((path) => ({ path }));
  world.serve(answering({ status: () => STATUS }).calls);
  const session = world.connect({ addresses });
  assert.equal(await world.settle(session.status()), STATUS);
  assert.is(world.states.at(-1)?.address, 'manager');
  await world.pause(1_000_000);
  const other = world.serve(answering({ status: () => ({ ...STATUS, sequence: 78 }) }).calls, 'neither');
  world.network.reset(world.clientHost, world.managerHost);
  assert.is((await world.settle(session.status())).sequence, 77);
  assert.is(other.service.usage().connections, 0);
});

check('a manager that says nothing any more is left, and asked again when it is there', async () => {
  const world = new CallWorld(11);
  world.serve(answering({ status: () => STATUS }).calls);
  const session = world.connect();
  await world.settle(session.status());
  const [client, manager] = [world.clientHost, world.managerHost];
  for (const [from, to] of [
    [client, manager],
    [manager, client],
  ]) {
    const told = world.states.length;
    world.network.cut(from, to);
    await world.pause(3_000_000);
    assert.match(world.states[told].reason, /it says nothing/);
    const asked = session.status();
    await world.pause(1_000_000);
    world.network.mend(from, to);
    assert.equal(await world.settle(asked), STATUS);
  }
});

check(
  'a client without the key, or of another cluster, is told at once, and so is one that has reached a node',
  async () => {
    const cases: readonly [object, RegExp][] = [
      [{ key: new SimKey(99, new SimRandom(3)) }, /refused to go on: whoever asks does not have the key/],
      [{ clusterId: 'f'.repeat(32) }, /belongs to cluster [0-9a-f]+, and not to f+/],
    ];
    for (const [changes, message] of cases) {
      const world = new CallWorld(12);
      const { service } = world.serve(answering({ status: () => STATUS }).calls);
      const session = world.connect(changes);
      const before = world.world.time.nowUs;
      await failure('NO_MANAGER', world.settle(session.status()), message);
      assert.ok(world.world.time.nowUs - before < 1_000_000, 'at once');
      assert.is(service.usage().buffers, 0);
    }
    const world = new CallWorld(12);
    world.serve(answering({ status: () => STATUS }).calls);
    assert.equal(await world.settle(world.connect({ clusterId: null }).status()), STATUS);
  },
);

check('a client acts for itself alone', async () => {
  const world = new CallWorld(13);
  const { calls, asked } = answering({ renew: () => assert.unreachable() });
  world.serve(calls);
  const session = world.connect({ callMs: 1000 });
  const renewed = session.renew({ clientId: 'f'.repeat(32), holds: [] });
  await failure('NO_MANAGER', world.settle(renewed), /it is for client f+, and e+ asks/);
  assert.equal(asked, []);
});

check('clients are told of maps of volumes that they attach or look for, and of no others', async () => {
  const world = new CallWorld(14);
  const { service } = world.serve(
    answering({ fetch: () => NEWEST, detach: () => ({ kind: 'released', ...NEWEST }), rename: () => NEWEST }).calls,
  );
  const session = world.connect();
  const other = { ...MAP, volume: { ...MAP.volume, id: 'a'.repeat(32) } };
  const later = authenticateMap({ ...MAP, mapVersion: MAP.mapVersion + 1 }, KEY);
  const tell = async () => {
    service.tell([authenticateMap(other, KEY), later]);
    await world.pause(100_000);
    return world.maps.splice(0);
  };
  await world.pause(100_000);
  assert.equal(await tell(), []);
  await world.settle(session.fetch('db'));
  assert.equal(await tell(), [later]);
  await world.settle(session.detach({ clientId: CLIENT, volumeId: MAP.volume.id, maps: [MAP] }));
  assert.equal(await tell(), []);
});

check('a session that is closed answers with that, whatever is under way, and leaves nothing', async () => {
  for (const ms of [0, 0.05, 5, 300, 600]) {
    const world = new CallWorld(15);
    if (ms !== 5)
      world.serve(
        scriptedCalls(() => new Promise(() => {})),
        MANAGER_ADDRESS.path,
      );
    const session = world.connect();
    const asked = session.status().catch(({ code }: StrakeError) => code);
    if (ms > 0) await world.pause(ms * 1000);
    session.close();
    session.close();
    assert.is(await world.settle(asked), 'ERR_STRAKE_CLOSED');
    await failure('CLOSED', world.settle(session.status()));
    await world.pause(1_000_000);
  }
});

run();
