/**
 * Everything that a manager knows, in memory: read from its store at a start, and changed together with the journal. The calls of
 * `ManagerCalls` work on it.
 */

import { StrakeError } from '../core/errors.js';
import { Notify } from '../core/notify.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { NO_CLIENT } from '../layout/volume-map.js';
import type { Clock } from '../ports/clock.js';
import type { ClusterKey } from '../ports/cluster-key.js';
import type { ClusterTimes, Decided } from '../ports/manager.js';
import { authenticateMap } from '../wire/maps.js';
import { Crowds } from './crowds.js';
import { EventLog } from './events.js';
import { devicesOf } from './group-record.js';
import { JobBook } from './job-book.js';
import type { Journal } from './journal.js';
import { NodeBook } from './node-book.js';
import { Readership } from './readership.js';
import { CLUSTER_KEY, type ClusterRecord, type Records } from './records.js';
import { type ManagedVolume, VolumeBook } from './volume-book.js';

export interface ClusterStateParts {
  readonly journal: Journal;
  readonly records: Records;
  readonly clock: Clock;
  readonly key: ClusterKey;
  /** Milliseconds since 1970. */
  readonly wallNowMs: () => number;
  readonly onDecided: (maps: readonly ReplicaMap[]) => void;
}

export class ClusterState {
  readonly journal: Journal;
  readonly events: EventLog;
  readonly nodes: NodeBook;
  readonly jobs: JobBook;
  readonly volumes: VolumeBook;
  readonly readership = new Readership();
  readonly crowds = new Crowds();
  /** Time has passed, or something has come that those who wait look at. */
  readonly ticks = new Notify();
  /** Why nothing is decided any more, which ends what waits; null while it is. */
  ended: StrakeError | null = null;
  readonly wallNowMs: () => number;
  /** When this life of the manager began. */
  readonly startedAtMs: number;
  private readonly clock: Clock;
  private readonly key: ClusterKey;
  private current: ClusterRecord;

  constructor({ journal, records, clock, key, wallNowMs, onDecided }: ClusterStateParts) {
    this.journal = journal;
    this.clock = clock;
    this.key = key;
    this.wallNowMs = wallNowMs;
    this.current = records.cluster;
    this.events = new EventLog(journal, wallNowMs, records.events);
    this.nodes = new NodeBook(journal, this.events, records);
    this.jobs = new JobBook(journal, this.events, wallNowMs, records.jobs);
    this.volumes = new VolumeBook(journal, records, this.jobs, onDecided);
    this.startedAtMs = clock.nowMs();
  }

  get cluster(): ClusterRecord {
    return this.current;
  }

  get times(): ClusterTimes {
    return this.current.times;
  }

  get nowMs(): number {
    return this.clock.nowMs();
  }

  /** Is durable with the next batch. */
  changeCluster(changes: Partial<Pick<ClusterRecord, 'epoch' | 'times'>>): void {
    this.current = { ...this.current, ...changes };
    this.journal.put(CLUSTER_KEY, this.current);
  }

  /** The map with what proves it. */
  readonly seal = (map: ReplicaMap): ReplicaMap => authenticateMap(map, this.key);

  /** The newest maps of a volume, and where its devices are. */
  decidedOf(volume: ManagedVolume): Decided<ReplicaMap> {
    const { maps } = volume;
    return { maps, devices: this.nodes.placesOf(maps.flatMap((map) => devicesOf(map))) };
  }

  /** The volume that a text means, about which something can be decided. Throws a `StrakeError` that says why not. */
  servable(text: string): ManagedVolume {
    const volume = this.volumes.find(text);
    this.checkServable(volume);
    return volume;
  }

  /** The same of an id. */
  servableId(volumeId: string): ManagedVolume {
    const volume = this.volumes.get(volumeId);
    if (volume === undefined || volume.deleted) throw new StrakeError('NO_VOLUME', `there is no volume ${volumeId}`);
    this.checkServable(volume);
    return volume;
  }

  private checkServable(volume: ManagedVolume): void {
    if (volume.givenUp) {
      throw new StrakeError('UNAVAILABLE', `volume ${volume.name} is being given back to its node`, {
        remedy: 'Wait for `strake cluster leave` to end there, or run it again.',
      });
    }
    if (volume.adopting !== null) {
      throw new StrakeError('UNPROVEN', `volume ${volume.name} is not adopted yet: ${volume.adopting}`, {
        remedy: 'Run `strake cluster init DIR --node FOLDER` once more: it completes that.',
      });
    }
    if (volume.ahead !== null) {
      throw new StrakeError('UNPROVEN', `nothing is decided about volume ${volume.name}: ${volume.ahead}`, {
        remedy: 'Start the manager on its newest store, or make its catalog anew from the devices.',
      });
    }
  }

  /**
   * Whether somebody holds a volume who may still be there. A holder that is heard and does not name the volume has lost it, or
   * could not serve it: it is in nobody's way. It decides nothing but whether a holder is replaced without being asked: members
   * refuse whoever is not the holder.
   */
  isHeld({ lease, holder, heldMs }: ManagedVolume): boolean {
    if (lease === 'released' || holder === NO_CLIENT) return false;
    // Whoever has not been heard since this manager started may have been just before.
    return this.nowMs - (heldMs ?? this.startedAtMs) < 2 * this.times.leaseMs;
  }

  /** For how many whole milliseconds the holder of a volume has not named it; null if it has not since the start. */
  silentMs({ heldMs }: ManagedVolume): number | null {
    return heldMs === null ? null : Math.floor(this.nowMs - heldMs);
  }

  busy(volume: ManagedVolume): StrakeError {
    const silentMs = this.silentMs(volume);
    const heard = silentMs === null ? 'not heard since the manager started' : `heard ${Math.round(silentMs)} ms ago`;
    const what = `volume ${volume.name} is held by client ${volume.holder}, ${heard}`;
    return new StrakeError('VOLUME_BUSY', what, {
      remedy: 'Close it there; or take it over, which ends the service there: strake volume export NAME --take-over.',
    });
  }
}
