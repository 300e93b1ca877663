/**
 * What is *settled* of each replica: its engine has said that everything recorded before this flush is durable on every member
 * that was in-sync. An engine that comes later compares what was recorded at or after the lowest of what its members know,
 * beside what is in doubt.
 *
 * ```text
 *   flush n ends everywhere ──► flush n + 1 tells it ──► mark in memory ─┬─► the next batch that has room: record 9
 *                                                                        └─► the page, at a checkpoint or with a map: byte 424
 * ```
 *
 * Being behind costs some comparing and nothing else, so a mark asks for no batch of its own, and for no sync. Being ahead would
 * leave copies that differ. Why it never is, wherever a crash comes between:
 *
 * 1. An engine tells what a flush *has* made durable on all members in-sync, this one included; never what the flush that tells
 *    it is about to. So a mark that survives speaks of what survives with it, here and elsewhere, and where one is lost an
 *    earlier one counts. A batch is replayed only if all before it are: marks come back in the order in which they were told.
 * 2. A mark that no batch has taken along is in memory only, until the next checkpoint. Slots leave the activity log, and so
 *    lose their doubt, in a checkpoint only, by the same root as the page with the mark.
 * 3. It only rises: by generation, then by number. Requests of an engine that has died may come late, and tell less.
 * 4. Only a member in-sync has one. A device that is given a map in which it is not in-sync loses its mark with that map, in one
 *    batch, and is told none until a map says that it is again: what it lacks is not settled here, whatever flushes it takes
 *    part in. That holds as well for a device that has served alone and meets another history, in which the same generation
 *    may have come farther: what it was told in its own is forgotten before the other one's engine tells it anything.
 * 5. A device that was away, and is started alone with force, has what it was told before it left. That was true of all
 *    members, and is low: the engine compares more. So it does with an older image, whose mark is older; therefore the lowest
 *    mark counts.
 * 6. Nothing is known of a new replica, of a migrated one, and of one that was brought up to date a moment ago. Such a member
 *    says nothing, and what the others say holds for it: it was in-sync when they were told, or has been made equal since. If
 *    none says anything, no slot has lost its doubt since an engine made the copies agree (2), or the last engine was of a
 *    version that keeps no marks. Then what is in doubt, or recorded differently, is all there is to go by.
 */

import { check } from '../../core/check.js';
import type { ReplicaPage } from '../../core/ids.js';
import { compareFlushes, type FlushId, isBefore, NO_FLUSH } from '../../layout/flush-id.js';
import type { Batch } from '../format/journal-batch.js';
import { SETTLED_RECORD_BYTES } from '../format/journal-records.js';

export class SettledMarks {
  /** By number of the page. */
  private readonly marks: FlushId[];
  /** Pages that are not up to date in the tree. */
  private readonly changed: Set<number>;
  /** Pages of which the journal does not have the mark. */
  private readonly unwritten = new Set<number>();

  /** `marks`: as they were read. */
  constructor(marks: readonly FlushId[], changed: Set<number>) {
    this.marks = [...marks];
    this.changed = changed;
  }

  /** What is settled of the replica on a page; `NO_FLUSH` if that is not known. */
  of(page: ReplicaPage): FlushId {
    return this.marks[page];
  }

  /** An engine has told what is settled. */
  tell(page: ReplicaPage, told: FlushId): void {
    check(page >= 0 && page < this.marks.length, 'what is settled is told of a page that does not exist', page);
    check(told.generation > 0, 'what is settled is told of no generation', page);
    if (!isBefore(this.marks[page], told)) return;
    this.marks[page] = told;
    this.changed.add(page);
    this.unwritten.add(page);
  }

  /** Nothing is known of what is on a page from now on. Whoever calls this sees to it that the page is written. */
  forget(page: ReplicaPage): void {
    this.marks[page] = NO_FLUSH;
    this.unwritten.delete(page);
  }

  /** A batch is about to be handed over: takes along what costs no further page. */
  write(batch: Batch): void {
    for (const page of this.unwritten) {
      if (!batch.hasRoomInPage(SETTLED_RECORD_BYTES)) return;
      const mark = this.marks[page];
      check(compareFlushes(mark, NO_FLUSH) > 0, 'a record says that nothing is settled', page);
      check(batch.addSettled(page, mark), 'what is settled does not fit the batch that has room for it', page);
      this.unwritten.delete(page);
    }
  }
}
