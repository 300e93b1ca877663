/** Maps of volumes on their way to the journal: each is stored whole, in one batch, and is durable when that is told. */

import { check } from '../../core/check.js';
import { ENOSPC } from '../../core/errno.js';
import type { VolumeMap } from '../../layout/volume-map.js';
import { PAGE_BYTES } from '../format/format.js';
import { VOLUME_CHUNK_BYTES } from '../format/journal-records.js';
import { encodeVolume } from '../format/volume-page.js';
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

  /** Stores a volume's map durably. Resolves with its index here, `-ENOSPC` if there is no page for it, or another errno. */
  async put(volume: VolumeMap): Promise<number> {
    const { admission, room, journal, volumes, deviceId, failure } = this.parts;
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
      // volumes meanwhile.
      const index = volumes.put(volume);
      if (index < 0) return -ENOSPC;
      const mark = volumes.flushedMarks[index];
      encodeVolume(page, index, deviceId, journal.lastSequence, volume, mark);
      const { sequence } = journal.batch;
      for (let at = 0; at < PAGE_BYTES; at += VOLUME_CHUNK_BYTES) {
        check(journal.batch.addVolume(index, page, at), 'a map does not fit the batch that has room for it', index);
      }
      const result = await new Promise<number>((proceed) => {
        journal.whenSynced(sequence, { proceed });
        journal.submit();
      });
      if (result < 0) return result;
      check(journal.durableSequence >= sequence, 'a map counts as stored before it is durable', index);
      check(volumes.indexOf(volume.id) === index, 'a map was stored under the number of another volume', index);
      volumes.settle(index, volume);
      return index;
    } finally {
      admission.endMap();
    }
  }
}
