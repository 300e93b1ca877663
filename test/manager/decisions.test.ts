/**
 * The decisions about one group, over courses of events that nobody has chosen: what members answer, when the manager hears of it,
 * restarts of the manager, and whatever may be asked for. The rules are told here once more, over the list of all maps.
 */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { StrakeError } from '#strake/core/errors.js';
import { type FlushId, NO_FLUSH } from '#strake/layout/flush-id.js';
import type { ReplicaMap, ReplicaMember } from '#strake/layout/replica-map.js';
import { NO_CLIENT, type VolumeHeader } from '#strake/layout/volume-map.js';
import { attachGroup, changeGroup, forceGroup, headerGroup, releaseGroup } from '#strake/manager/decisions.js';
import {
  effectiveVersion,
  firstRecord,
  type GroupRecord,
  inSyncOf,
  isPending,
  sharedMembers,
  withBase,
} from '#strake/manager/group-record.js';
import { stepBetween } from '#strake/manager/map-steps.js';
import { check, repetitions, run } from '../support/check.js';
import { EPOCH, idOf } from '../support/manager-world.js';

const DEVICES = ['A', 'B', 'C'].map(idOf);
const SPARE = idOf('D');
const FIRST = EPOCH + 1;
const seal = (map: ReplicaMap): ReplicaMap => ({ ...map, authentication: 'f'.repeat(32) });

function member(deviceId: string, place: number): ReplicaMember {
  return { deviceId, place, state: 'in-sync', since: NO_FLUSH, incarnation: 0, flushNumber: 0, joined: FIRST };
}

const VOLUME: VolumeHeader = {
  ...{ id: idOf('v'), name: 'v', headerVersion: 0, createdMs: 1, sizeBytes: 1 << 24, layout: 'mirror', copies: 3 },
  ...{ segmentBytes: 1 << 20, deleted: false },
};

function firstMap(): ReplicaMap {
  const right = { generation: 0, holder: NO_CLIENT, lease: 'released' } as const;
  return { volume: VOLUME, group: 0, groups: 1, mapVersion: FIRST, ...right, members: DEVICES.map(member) };
}

type Change = (member: ReplicaMember) => ReplicaMember;

function changed(map: ReplicaMap, deviceIds: readonly string[], make: Change): ReplicaMap {
  const members = map.members.map((one) => (deviceIds.includes(one.deviceId) ? make(one) : one));
  return { ...map, members };
}

const POINT: FlushId = { generation: 1, flushNumber: 7 };
const out: Change = (one) => ({ ...one, state: 'offline', since: one.state === 'syncing' ? one.since : POINT });
const taken: Change = (one) => ({ ...one, state: 'syncing' });
const promoted: Change = (one) => ({ ...one, state: 'in-sync' });

/** A group with its members, and a manager that may restart. */
class Course {
  /** What the manager has in memory, and what a restart finds. */
  record = firstRecord(seal(firstMap()));
  durable = this.record;
  readonly maps: ReplicaMap[] = [this.record.newest];
  /** The version that each device has answered, and what of that the manager has heard. */
  readonly answered = new Map<string, number>();
  heard = new Map<string, number>();
  readonly done: string[] = [];

  private get newest(): ReplicaMap {
    return this.record.newest;
  }

  /** Everything that may happen now, in an order that does not depend on chance. */
  events(): (readonly [string, () => void])[] {
    const { newest } = this;
    const events: (readonly [string, () => void])[] = [
      ['attach', () => this.attach()],
      ['rename', () => this.decide(() => headerGroup(this.record, this.renamed(), seal))],
      ['restart', () => this.restart()],
      ['settle', () => this.settle()],
    ];
    if (newest.lease !== 'released') {
      events.push(['release', () => this.decide(() => releaseGroup(this.record, newest.members, seal))]);
    }
    const listed = newest.members.filter(({ state }) => state !== 'offline').map(({ deviceId }) => deviceId);
    for (let mask = 1; mask < 1 << listed.length; mask += 1) {
      const gone = listed.filter((_, at) => (mask & (1 << at)) !== 0);
      events.push([`remove ${gone.map(shown).join()}`, () => this.remove(gone)]);
    }
    for (const { deviceId, state, place } of newest.members) {
      const name = shown(deviceId);
      if (state === 'syncing') events.push([`promote ${name}`, () => this.join(changed(newest, [deviceId], promoted))]);
      if (state !== 'offline') continue;
      events.push([`take ${name}`, () => this.join(changed(newest, [deviceId], taken))]);
      if (newest.members.some((one) => one.deviceId === SPARE)) continue;
      const other = { ...member(SPARE, place), state: 'syncing', joined: 0 } as const;
      events.push([`replace ${name}`, () => this.join(changed(newest, [deviceId], () => other))]);
    }
    for (const deviceId of [...DEVICES, SPARE]) {
      for (const map of this.maps.slice(-3)) {
        const has = this.answered.get(deviceId) ?? 0;
        if (map.mapVersion <= has || !map.members.some((one) => one.deviceId === deviceId)) continue;
        const event = `${shown(deviceId)} answers ${map.mapVersion - EPOCH}`;
        events.push([event, () => this.answered.set(deviceId, map.mapVersion)]);
      }
      if (this.answered.get(deviceId) === this.heard.get(deviceId)) continue;
      events.push([`hear ${shown(deviceId)}`, () => this.hear(deviceId)]);
    }
    return events;
  }

  private renamed() {
    return { ...this.newest.volume, headerVersion: this.newest.volume.headerVersion + 1 };
  }

  private decide(make: () => GroupRecord): void {
    const before = this.newest;
    this.record = make();
    this.durable = this.record;
    assert.is(this.newest.mapVersion, before.mapVersion + 1, 'each version is used once');
    this.maps.push(this.newest);
  }

  /** Addable to whatever is pending. */
  private attach(): void {
    const generation = this.newest.generation + 1;
    this.decide(() => attachGroup(this.record, { holder: idOf('client'), generation }, () => 3, seal));
    assert.is(this.newest.generation, generation);
  }

  private change(proposed: ReplicaMap): boolean {
    const step = stepBetween(this.newest, proposed);
    try {
      this.decide(() => changeGroup(this.record, step, proposed, seal));
      return true;
    } catch (error) {
      if (error instanceof StrakeError && error.code === 'ERR_STRAKE_UNAVAILABLE') return false;
      throw error;
    }
  }

  /** A removal is decided exactly if it leaves a member that every map has which may be effective. */
  private remove(gone: readonly string[]): void {
    const { base } = this.record;
    const since = this.maps.filter(({ mapVersion }) => mapVersion >= base);
    const next = changed(this.newest, gone, out);
    const left = inSyncOf(next);
    const allowed = left.some((deviceId) => since.every((map) => inSyncOf(map).includes(deviceId)));
    assert.is(this.change(next), allowed, `a removal of ${gone.map(shown).join()} is ${allowed ? '' : 'not '}allowed`);
  }

  /** Take-in, promotion and replacement are decided exactly if nothing is pending. */
  private join(next: ReplicaMap): void {
    const before = this.newest;
    const pending = before.mapVersion > this.record.base;
    assert.is(isPending(this.record), pending);
    assert.is(this.change(next), !pending, 'nobody joins while a change is pending, and else somebody does');
    if (pending) return;
    for (const [at, { deviceId, state, joined }] of this.newest.members.entries()) {
      const stayed =
        before.members[at].deviceId === deviceId && (before.members[at].state !== 'offline' || state === 'offline');
      const wanted = stayed ? before.members[at].joined : this.newest.mapVersion;
      assert.is(joined, wanted, 'whoever is taken in joined with this version, and nobody else');
    }
  }

  /** All members answer the newest map, and the manager hears of it. */
  private settle(): void {
    for (const { deviceId } of this.newest.members) {
      this.answered.set(deviceId, this.newest.mapVersion);
      this.hear(deviceId);
    }
    assert.is(this.record.base, this.newest.mapVersion, 'what all have answered is known to be effective');
  }

  private hear(deviceId: string): void {
    this.heard.set(deviceId, this.answered.get(deviceId) ?? 0);
    this.record = withBase(
      this.record,
      effectiveVersion(this.record, (one) => this.heard.get(one) ?? 0),
    );
  }

  /** What is durable is there, as it was read, and members have to be heard again. */
  private restart(): void {
    this.record = JSON.parse(JSON.stringify(this.durable)) as GroupRecord;
    this.heard = new Map();
  }

  private isEffective(map: ReplicaMap): boolean {
    return inSyncOf(map).every((deviceId) => (this.answered.get(deviceId) ?? 0) >= map.mapVersion);
  }

  checkNow(): void {
    const effective = this.maps.filter((map) => this.isEffective(map));
    for (const [at, map] of effective.entries()) {
      assert.ok(inSyncOf(map).length > 0, 'somebody is in-sync');
      const before = effective[at - 1];
      if (before === undefined) continue;
      const shared = inSyncOf(map).some((deviceId) => inSyncOf(before).includes(deviceId));
      assert.ok(shared, `maps ${before.mapVersion - EPOCH} and ${map.mapVersion - EPOCH} share no member in-sync`);
    }
    const { base } = this.record;
    const known = base === 0 || effective.some(({ mapVersion }) => mapVersion === base);
    assert.ok(known, `map ${base - EPOCH} counts as effective, and is not`);
    assert.ok(sharedMembers(this.record).length > 0, 'somebody is in-sync in every map that may be effective');
  }

  run(choices: readonly number[]): void {
    for (const choice of choices) {
      const events = this.events();
      const [name, happen] = events[choice % events.length];
      this.done.push(name);
      try {
        happen();
        this.checkNow();
      } catch (error) {
        throw new Error(`${(error as Error).message}, after: ${this.done.join('; ')}`, { cause: error });
      }
    }
  }
}

function shown(deviceId: string): string {
  return Buffer.from(deviceId.slice(0, 2), 'hex').toString();
}

check('effective maps share a member, and only what may be is decided, whatever happens', () => {
  const choices = fc.array(fc.nat(2 ** 20), { minLength: 1, maxLength: 80 });
  const seed = process.env.STRAKE_TEST_SEED === undefined ? undefined : Number(process.env.STRAKE_TEST_SEED);
  fc.assert(
    fc.property(choices, (list) => new Course().run(list)),
    { numRuns: repetitions(20_000, 1500), ...(seed === undefined ? {} : { seed }) },
  );
});

/** All courses of so many events, of those that names begin with one of these. */
function explore(depth: number, wanted: readonly string[], prefix: readonly number[] = []): number {
  const course = new Course();
  course.run(prefix);
  if (prefix.length === depth) return 1;
  let courses = 0;
  for (const [at, [name]] of course.events().entries()) {
    if (wanted.some((word) => name.startsWith(word))) courses += explore(depth, wanted, [...prefix, at]);
  }
  return courses;
}

check('so do all short courses of removals, attaches, answers and restarts', () => {
  const depth = repetitions(5, 4);
  const courses = explore(depth, ['remove', 'attach', 'A', 'B', 'hear', 'restart']);
  assert.ok(courses > 1000, `${courses} courses`);
});

check('a step says what it is, and what is none is refused with its reason', () => {
  const map = seal({ ...firstMap(), lease: 'exclusive', holder: idOf('one') });
  const [a, b] = DEVICES;
  const step = (proposed: ReplicaMap, from = map) => stepBetween(from, proposed);
  assert.equal(step(changed(map, [a, b], out)), { kind: 'removal', deviceIds: [a, b] });
  const withOut = changed(map, [b], out);
  assert.equal(step(changed(withOut, [b], taken), withOut), { kind: 'take-in', deviceIds: [b] });
  const spare = changed(withOut, [b], ({ place }) => ({ ...member(SPARE, place), state: 'offline' }));
  assert.equal(step(spare, withOut), { kind: 'replacement', deviceIds: [SPARE] });
  const progress = changed(map, [a], (one) => ({ ...one, incarnation: 4, flushNumber: 8 }));
  assert.equal(step(progress), { kind: 'progress', deviceIds: [] });
  const refused: readonly (readonly [RegExp, ReplicaMap, ReplicaMap?])[] = [
    [/generation/, { ...map, generation: 1 }],
    [/holder/, { ...map, holder: idOf('two') }],
    [/right to write/, { ...map, lease: 'released' }],
    [/name of the volume/, { ...map, volume: { ...map.volume, name: 'w' } }],
    [/sizeBytes of the volume/, { ...map, volume: { ...map.volume, sizeBytes: 1 << 25 } }],
    [/another group/, { ...map, groups: 2 }],
    [/other places/, { ...map, members: map.members.slice(1) }],
    [/goes back/, map, progress],
    [/two changes/, changed(changed(withOut, [a], out), [b], taken), withOut],
    [/from offline to in-sync/, changed(withOut, [b], promoted), withOut],
    [/from in-sync to syncing/, changed(map, [a], taken)],
    [/takes the place of device .*, which is in-sync/, changed(map, [b], ({ place }) => member(SPARE, place))],
    [/as in-sync, and has nothing/, changed(withOut, [b], ({ place }) => member(SPARE, place)), withOut],
    [
      /missed more/,
      changed(withOut, [b], (one) => taken({ ...one, since: { generation: 2, flushNumber: 0 } })),
      withOut,
    ],
    [/joined with another version/, changed(map, [a], (one) => ({ ...one, joined: 5 }))],
  ];
  for (const [why, proposed, from] of refused) {
    const found = step(proposed, from);
    assert.is(found.kind, 'refused', String(why));
    if (found.kind === 'refused') assert.match(found.why, why);
  }
});

check('a member that was being brought up to date lacks what it lacked before', () => {
  const since = { generation: 1, flushNumber: 2 };
  const syncing = changed(seal(firstMap()), [DEVICES[2]], (one) => ({ ...one, state: 'syncing', since }));
  const later = changed(syncing, [DEVICES[2]], (one) => ({ ...one, state: 'offline', since: POINT }));
  assert.is(stepBetween(syncing, later).kind, 'refused');
  const same = changed(syncing, [DEVICES[2]], (one) => ({ ...one, state: 'offline' }));
  assert.is(stepBetween(syncing, same).kind, 'removal');
});

check('an attach notes in which life its members are', () => {
  const record = firstRecord(seal(firstMap()));
  const { newest } = attachGroup(
    record,
    { holder: idOf('one'), generation: 1 },
    (id) => (id === DEVICES[0] ? 9 : 0),
    seal,
  );
  assert.equal(
    newest.members.map(({ incarnation }) => incarnation),
    [9, 0, 0],
  );
});

check('a forced group has the members that are left, or those that were in-sync before them', () => {
  const first = firstRecord(seal(firstMap()));
  const two = { ...first, base: FIRST };
  const alone = changeGroup(
    two,
    { kind: 'removal', deviceIds: [] },
    changed(two.newest, DEVICES.slice(0, 2), out),
    seal,
  );
  const life = { epoch: 2, generation: 1 };
  const left = forceGroup(alone, new Set([DEVICES[0]]), life, seal);
  assert.equal(inSyncOf(left?.record.newest ?? firstMap()), [DEVICES[2]]);
  assert.equal(left?.back, []);
  const back = forceGroup(alone, new Set([DEVICES[2]]), life, seal);
  assert.equal(inSyncOf(back?.record.newest ?? firstMap()), DEVICES.slice(0, 2));
  assert.equal(back?.back, DEVICES.slice(0, 2));
  assert.is(back?.record.newest.mapVersion, 2 * EPOCH + 1);
  assert.is(forceGroup(alone, new Set(DEVICES), life, seal), undefined);
});

run();
