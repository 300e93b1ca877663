/** A volume as the node that hosts it knows it; what a program has of it is `NodeVolume` of `src/embed`. */

import type { VolumeReader } from '../client/reader/volume-reader.js';
import { VolumeEngine } from '../client/volume-engine.js';
import { check } from '../core/check.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { Replica } from '../node/replica.js';
import type { HostedEngine } from './engine-elsewhere.js';

/** What serves a volume: an engine that may write, or one that only reads. */
export type ServedVolume = HostedEngine | VolumeReader;

/** A volume of the node, started or not. */
export class HostedVolume {
  readonly id: string;
  stored: VolumeMap;
  engine: HostedEngine | null = null;
  /** What serves it where it is only read; null where it is not. */
  reader: VolumeReader | null = null;
  replicas: Replica[] = [];
  /** Its piece of memory, while it is started. */
  place = -1;
  /** Why it is not started. */
  reason = '';
  unproven = false;
  /** When it was to be started last, another volume had its name. */
  conflict = false;
  /** It has been started since the devices were opened, so their incarnations are the ones that the map knows. */
  started = false;
  /** Managers decide about it, and not the devices of this node. */
  managed = false;
  /** It is attached because nobody else attends to it, and is given up as soon as somebody does. */
  janitor = false;
  /** It is being made: others hear of it when it is there. */
  coming = false;
  /** The name that it is being given; it has both until that is done. */
  nextName: string | null = null;

  constructor(stored: VolumeMap) {
    this.id = stored.id;
    this.stored = stored;
  }

  get name(): string {
    return this.stored.name;
  }

  /** What serves it now; null while nothing does. */
  get served(): ServedVolume | null {
    if (this.engine?.serving) return this.engine;
    return this.reader?.serving ? this.reader : null;
  }

  /** Its engine, which is on this thread: as always of a volume that managers decide about. */
  get ownEngine(): VolumeEngine | null {
    const { engine } = this;
    if (engine === null) return null;
    check(engine instanceof VolumeEngine, 'an engine is asked for that is on another shard', this.place);
    return engine;
  }
}
