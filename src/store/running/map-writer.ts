/** Pages of replicas on their way to the journal: each is stored whole, in one batch, and is durable when that is told. */

import { check } from '../../core/check.js';
import { EBUSY, ENOSPC } from '../../core/errno.js';
import type { ReplicaPage } from '../../core/ids.js';
import { checkReplica, type ReplicaMap, type ReplicaOwn } from '../../layout/replica-map.js';
import { PAGE_BYTES } from '../format/format.js';
import { VOLUME_CHUNK_BYTES } from '../format/journal-records.js';
import { encodeReplica } from '../format/replica-page.js';
import type { Admission } from './admission.js';
import type { JournalRoom } from './journal-room.js';
import type { JournalWriter } from './journal-writer.js';
import type { VolumeTable } from './volume-table.js';

/** What storing maps needs of its store. */
export interface MapWriterParts {
  readonly admission: Admission;
  readonly room: JournalRoom;
  readonly journal: JournalWriter;
  readonly volumes: VolumeTable;
  readonly deviceId: string;
  /** 0, or the errno of what has ended all modifications. */
  readonly failure: () => number;
}

export class MapWriter {
  private readonly parts: MapWriterParts;

  constructor(parts: MapWriterParts) {
    this.parts = parts;
  }

  /**
   * Stores the map of a replica durably, and what this device is to know of it. Resolves with its page, `-ENOSPC` if there is
   * none for it, or another errno. Rejects with `ERR_STRAKE_INVALID_ARGUMENT` if the map contradicts itself.
   */
  async put(map: ReplicaMap, own?: Partial<Pick<ReplicaOwn, 'servedGeneration' | 'answered'>>): Promise<number> {
    // Whoever reads the page refuses what this refuses, and the device with it.
    checkReplica(map);
    const { volumes, journal, deviceId } = this.parts;
    const index = await this.store((page) => {
      const at = volumes.put(map, own);
      const record = volumes.recordOf(at);
      if (record === undefined) return -ENOSPC;
      encodeReplica(page, { index: at, deviceId, sequence: journal.lastSequence }, record);
      return at;
    });
    if (index >= 0) volumes.settle(index, map);
    return index;
  }

  /** Empties a page durably. Resolves with its number, `-EBUSY` if slots belong to it, or another errno. */
  forget(index: ReplicaPage): Promise<number> {
    const { volumes } = this.parts;
    return this.store(() => {
      if (volumes.segmentsOf(index) > 0) return -EBUSY;
      volumes.forget(index);
      return index;
    });
  }

  /** `fill` fills the page, and returns its number or a negative errno; it is called when there is room in the journal. */
  private async store(fill: (page: Uint8Array) => number): Promise<number> {
    const { admission, room, journal, failure } = this.parts;
    await admission.beginMap();
    try {
      if (failure() !== 0) return failure();
      const sectors = Math.ceil(PAGE_BYTES / VOLUME_CHUNK_BYTES) + 1;
      while (journal.batch.sectorsLeft < sectors) {
        if (failure() !== 0) return failure();
        // There may be room at once.
        await new Promise<void>((resolve) => room.whenRoom(resolve));
      }
      const page = new Uint8Array(PAGE_BYTES);
      // Not before: a flush that was remembered while this waited for room comes before the page, and others may have put
      // replicas meanwhile.
      const index = fill(page);
      if (index < 0) return index;
      const { sequence } = journal.batch;
      for (let at = 0; at < PAGE_BYTES; at += VOLUME_CHUNK_BYTES) {
        check(journal.batch.addPage(index, page, at), 'a page does not fit the batch that has room for it', index);
      }
      const result = await new Promise<number>((proceed) => {
        journal.whenSynced(sequence, { proceed });
        journal.submit();
      });
      if (result < 0) return result;
      check(journal.durableSequence >= sequence, 'a page counts as stored before it is durable', index);
      return index;
    } finally {
      admission.endMap();
    }
  }
}
