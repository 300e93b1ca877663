/**
 * Jobs that bring members up to date: that one goes on is durable with the map that says so, and how far it has come is known
 * as long as whoever does it tells.
 *
 * ```text
 *   a member is syncing ──► goes on ─┬─ it is promoted ───────────────────────────────────────────────► ended
 *   in a volume that is held         └─ it leaves, or joins anew; the volume is released or attached ─► failed
 * ```
 *
 * A job is of one member under its *joined* and one generation. Today the engine of the volume's holder does it; other kinds, and
 * jobs that others do, have records of the same form.
 */

import { check } from '../core/check.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { JobListed, JobTold } from '../ports/manager.js';
import type { EventLog } from './events.js';
import type { Journal } from './journal.js';
import { type JobRecord, jobKey } from './records.js';

/** What a job is called until whoever does it tells. */
const FIRST_KIND = 'resync';

interface Known {
  record: JobRecord;
  /** As it was told last; null where nobody has since the manager started. */
  progress: Pick<JobTold, 'bytesDone' | 'bytesTotal'> | null;
}

export class JobBook {
  private readonly journal: Journal;
  private readonly events: EventLog;
  private readonly wallNowMs: () => number;
  private readonly known = new Map<string, Known>();

  constructor(journal: Journal, events: EventLog, wallNowMs: () => number, records: readonly JobRecord[]) {
    this.journal = journal;
    this.events = events;
    this.wallNowMs = wallNowMs;
    for (const record of records) this.known.set(jobKey(record), { record, progress: null });
  }

  /** The holder of a group tells how far a job has come, and which it is. `map`: the newest of the group. */
  told(map: ReplicaMap, { kind, deviceId, joined, bytesDone, bytesTotal }: JobTold): void {
    const { volume, group, generation } = map;
    const key = jobKey({ volumeId: volume.id, group, deviceId });
    const known = this.known.get(key);
    // It was told before the map was known that has ended it.
    if (known === undefined || known.record.joined !== joined || known.record.generation !== generation) return;
    known.progress = { bytesDone, bytesTotal };
    if (known.record.kind === kind) return;
    known.record = { ...known.record, kind };
    this.journal.put(key, known.record);
  }

  private note(kind: string, { volumeId, group, deviceId }: JobRecord, name: string, what: string): void {
    this.events.add(kind, `${what} in group ${group} of volume ${name}`, { volumeId, group, deviceId });
  }

  private end(record: JobRecord, name: string, isDone: boolean): void {
    const key = jobKey(record);
    this.known.delete(key);
    this.journal.remove(key);
    const what = `${record.kind} of device ${record.deviceId}`;
    if (isDone) this.note('job-ended', record, name, `${what} has ended`);
    else this.note('job-failed', record, name, `${what} has not come to its end`);
  }

  /** A group has another newest map: jobs of it end, and others begin. */
  decided(map: ReplicaMap): void {
    const { volume, group, generation, members, lease } = map;
    for (const { record } of this.known.values()) {
      if (record.volumeId !== volume.id || record.group !== group) continue;
      const member = members.find(({ deviceId }) => deviceId === record.deviceId);
      const stays = member?.joined === record.joined && generation === record.generation && lease !== 'released';
      if (!stays || member.state !== 'syncing') this.end(record, volume.name, stays && member.state === 'in-sync');
    }
    if (lease === 'released') return;
    for (const { deviceId, state, joined } of members) {
      const record = { volumeId: volume.id, group, deviceId, kind: FIRST_KIND, joined, generation };
      if (state === 'syncing' && !this.known.has(jobKey(record))) this.begin(record, volume.name);
    }
  }

  private begin(about: Omit<JobRecord, 'startedMs'>, name: string): void {
    const record = { ...about, startedMs: this.wallNowMs() };
    const key = jobKey(record);
    check(!this.known.has(key), 'a job begins in the place of one that goes on', record.group);
    this.known.set(key, { record, progress: null });
    this.journal.put(key, record);
    this.note('job-began', record, name, `device ${record.deviceId} is being brought up to date`);
  }

  /** Nothing is known of a volume any more. */
  drop(volumeId: string): void {
    for (const [key, { record }] of this.known) {
      if (record.volumeId !== volumeId) continue;
      this.known.delete(key);
      this.journal.remove(key);
    }
  }

  /** Those that go on in a volume. */
  of(volumeId: string): readonly JobListed[] {
    return [...this.known.values()]
      .filter(({ record }) => record.volumeId === volumeId)
      .map(({ record, progress }) => {
        const { group, deviceId, kind, joined, startedMs } = record;
        const { bytesDone = null, bytesTotal = null } = progress ?? {};
        return { group, deviceId, kind, joined, startedMs, bytesDone, bytesTotal };
      });
  }
}
