/**
 * From one map of a group to the next: which change that is, if it is one that may be asked for. Pure.
 *
 * What may be noted beside any change: how far members have come, which only rises, and that nothing discarded has slots any
 * more.
 */

import { compareFlushes, type FlushId, NO_FLUSH } from '../layout/flush-id.js';
import type { ReplicaMap, ReplicaMember } from '../layout/replica-map.js';
import { NO_DEVICE, type VolumeHeader } from '../layout/volume-map.js';

export type StepKind = 'progress' | 'removal' | 'take-in' | 'promotion' | 'replacement';

/** A change, and whom it concerns; or why there is no such change. */
export type Step =
  | { readonly kind: StepKind; readonly deviceIds: readonly string[] }
  | { readonly kind: 'refused'; readonly why: string };

type Part = StepKind | { readonly why: string };

/** The change that leads from `newest` to `proposed`. */
export function stepBetween(newest: ReplicaMap, proposed: ReplicaMap): Step {
  const wrong = differs(newest, proposed);
  if (wrong !== null) return { kind: 'refused', why: wrong };
  let kind: StepKind = 'progress';
  const deviceIds: string[] = [];
  for (const [at, before] of newest.members.entries()) {
    const after = proposed.members[at];
    const part = partOf(before, after);
    if (typeof part === 'object') return { kind: 'refused', why: `device ${after.deviceId}: ${part.why}` };
    if (part === 'progress') continue;
    const several = part === 'removal' && kind === 'removal';
    if (kind !== 'progress' && !several) return { kind: 'refused', why: `${kind} and ${part} are two changes` };
    kind = part;
    deviceIds.push(after.deviceId);
  }
  return { kind, deviceIds };
}

const HEADER_FIELDS = [
  ...['id', 'name', 'headerVersion', 'createdMs', 'sizeBytes', 'layout', 'copies', 'segmentBytes', 'deleted'],
] as const satisfies readonly string[] as readonly (keyof VolumeHeader)[];

/** What must be the same in both, and is not; null if all is. */
function differs(newest: ReplicaMap, proposed: ReplicaMap): string | null {
  const field = HEADER_FIELDS.find((name) => newest.volume[name] !== proposed.volume[name]);
  if (field !== undefined) return `the ${field} of the volume is changed by a call of its own`;
  if (newest.group !== proposed.group || newest.groups !== proposed.groups) return 'it is the map of another group';
  if (newest.generation !== proposed.generation) return 'a generation begins by an attach alone';
  if (newest.holder !== proposed.holder) return 'a holder is changed by an attach alone';
  if (newest.lease !== proposed.lease) return 'the right to write is given back by a call of its own';
  const { members } = newest;
  const places = members.length === proposed.members.length;
  if (!places || members.some(({ place }, at) => place !== proposed.members[at].place)) return 'it has other places';
  return null;
}

function partOf(before: ReplicaMember, after: ReplicaMember): Part {
  if (before.deviceId !== after.deviceId) return replacedBy(before, after);
  // What a member has covered by itself counts from its promotion on: it has been made equal to others since.
  const promoted = before.state === 'syncing' && after.state === 'in-sync';
  if (after.incarnation < before.incarnation || (after.flushNumber < before.flushNumber && !promoted)) {
    return { why: 'its progress goes back' };
  }
  if (after.joined !== before.joined && !(before.state === 'offline' && after.state === 'syncing')) {
    return { why: 'it joined with another version' };
  }
  if (before.state === after.state) return stays(before, after);
  if (after.state === 'offline') return leaves(before, after);
  if (before.state === 'offline' && after.state === 'syncing') {
    if (before.deviceId === NO_DEVICE) return { why: 'nobody is taken in' };
    return isKept(before.since, after.since) ? 'take-in' : { why: 'it has missed more than the map would say' };
  }
  if (before.state === 'syncing' && after.state === 'in-sync') return 'promotion';
  return { why: `nobody goes from ${before.state} to ${after.state} in one change` };
}

function isKept(before: FlushId, after: FlushId): boolean {
  return compareFlushes(before, after) === 0 || compareFlushes(after, NO_FLUSH) === 0;
}

function stays(before: ReplicaMember, after: ReplicaMember): Part {
  const same = compareFlushes(before.since, after.since) === 0;
  // That nothing discarded has slots any more may be noted of a member that is in-sync.
  if (same || (after.state === 'in-sync' && compareFlushes(after.since, NO_FLUSH) === 0)) return 'progress';
  return { why: 'it has missed more or less than before, and stays what it is' };
}

/** A member that was being brought up to date lacks what it lacked before. */
function leaves(before: ReplicaMember, after: ReplicaMember): Part {
  const less = before.state === 'syncing' && compareFlushes(after.since, before.since) > 0;
  return less ? { why: 'it has missed more than the map would say' } : 'removal';
}

/** Another device, which has nothing, takes a place: at once as one that receives writes, or for later. */
function replacedBy(before: ReplicaMember, after: ReplicaMember): Part {
  if (before.state !== 'offline')
    return { why: `it takes the place of device ${before.deviceId}, which is ${before.state}` };
  if (after.deviceId === NO_DEVICE) return { why: 'a place is given to nobody' };
  if (after.state === 'in-sync') return { why: 'it takes a place as in-sync, and has nothing' };
  if (compareFlushes(after.since, NO_FLUSH) !== 0) return { why: 'it has nothing, and the map would say that it has' };
  return 'replacement';
}
