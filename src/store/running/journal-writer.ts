/**
 * Writing the journal: records gather in one batch while another is on its way, and flushes are shared.
 *
 * ```text
 *   records ──► filling ──► in flight ──► complete ──► (sync) ──► durable
 *                  └ at the end of each batch of completions, if nothing is in flight
 * ```
 *
 * Numbers that others rely on: `completedSequence`, up to which the device has taken the batches; `durableSequence`, up to which
 * a sync that began afterwards has ended; `wholeSequence`, up to which that holds of the content of first writes as well, whose
 * records went beside it (`FirstWrites`); `notedSequence`, up to which a batch that is itself durable says that they are durable.
 * That is never beyond what is whole, as recovery takes a first write on trust up to there.
 *
 * A failed write or sync is final: nothing can be promised any more, everybody who waits gets its error, and so does whoever
 * comes later.
 */

import { check } from '../../core/check.js';
import { EIO } from '../../core/errno.js';
import { STORE_CALLS_MAX, STORE_OPERATIONS_MAX } from '../../core/limits.js';
import { Waiting } from '../../core/waiting.js';
import type { CompletionPort } from '../../ports/completion.js';
import type { Device } from '../../ports/device.js';
import type { Memory } from '../../ports/memory.js';
import { type Layout, PAGE_BYTES } from '../format/format.js';
import { Batch } from '../format/journal-batch.js';
import { nextBatchPage } from '../format/journal-records.js';
import type { Superblock } from '../format/superblock.js';
import { BATCH_PAGES_MAX } from '../limits.js';
import { FirstWrites } from './first-writes.js';

/** Somebody who waits for the journal; `proceed` gets 0 or a negative errno. */
export interface JournalWaiter {
  proceed(result: number): void;
}

/** Memory for the batches, from a page on. */
export const JOURNAL_WRITER_BYTES = 2 * BATCH_PAGES_MAX * PAGE_BYTES;

/** What a journal is written through, and whose it is. */
export interface JournalWriterParts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly device: Device;
  readonly superblock: Pick<Superblock, 'layout' | 'deviceId' | 'incarnation'>;
  /** Start of `JOURNAL_WRITER_BYTES`. */
  readonly memoryStart: number;
  /** A batch is about to be handed over: what costs no further page may still be put into it. */
  readonly onSubmit: (batch: Batch) => void;
  /** Called when there is an empty batch to fill again. */
  readonly onRoom: () => void;
  /** Called at the first failure, with its errno. */
  readonly onFailure: (result: number) => void;
}

/** Operations, flushes and calls: each waits for one thing at a time. */
const WAITERS = STORE_OPERATIONS_MAX + STORE_CALLS_MAX;

const TAG_WRITE = 0;
const TAG_SYNC = 1;
const TAG_KICK = 2;

/** Where the journal goes on. */
export interface JournalPosition {
  readonly page: number;
  readonly sequence: number;
}

interface SyncWaiter {
  readonly sequence: number;
  readonly waiter: JournalWaiter;
}

export class JournalWriter {
  completedSequence: number;
  durableSequence: number;
  wholeSequence: number;
  notedSequence: number;
  readonly firstWrites = new FirstWrites();
  /** Set by the first failure; a negative errno. */
  failure = 0;
  private readonly onSubmit: (batch: Batch) => void;
  private readonly completions: CompletionPort;
  private readonly memory: Memory;
  private readonly device: Device;
  private readonly layout: Layout;
  private readonly deviceId: string;
  private readonly incarnation: number;
  private readonly token: number;
  private readonly onRoom: () => void;
  private readonly onFailure: (result: number) => void;
  private filling: Batch;
  private spare: Batch;
  private inFlight: Batch | null = null;
  private forced = false;
  private kicked = false;
  private page: number;
  /** Pages between the oldest that is needed and the next to write. */
  private usedPages = 0;
  /** Those who wait for the batch that is being filled, and for the one in flight; they change places with the batches. */
  private fillingWaiters = new Waiting<JournalWaiter>('who wait for a batch', WAITERS);
  private inFlightWaiters = new Waiting<JournalWaiter>('who wait for a batch', WAITERS);
  /** Those who wait for a sync to begin, in the order of their batches, and for the one in flight. */
  private readonly syncWaiters = new Waiting<SyncWaiter>('who wait for a sync', WAITERS);
  private readonly covered = new Waiting<SyncWaiter>('who wait for a sync', WAITERS);
  /** The batch that a sync was last asked for. */
  private askedSequence = 0;
  private syncing = false;
  private syncCompleted = 0;
  private syncWhole = 0;
  /** What the header of the last batch that is complete says, and of the one in flight. */
  private completedNote: number;
  private inFlightNote = 0;
  private syncNote = 0;
  private readonly idleWaiters = new Waiting<() => void>('calls that wait for the journal to be idle', STORE_CALLS_MAX);
  private readonly batchEnd = () => {
    // As `hasBatch` says; it is asked at each batch of completions, which mostly have nothing for the journal.
    if (this.filling.records > 0 || this.forced) this.submit();
  };

  constructor(parts: JournalWriterParts, start: JournalPosition) {
    const { completions, memory, device, memoryStart, superblock, onSubmit } = parts;
    this.onSubmit = onSubmit;
    this.completions = completions;
    this.memory = memory;
    this.device = device;
    this.layout = superblock.layout;
    this.deviceId = superblock.deviceId;
    this.incarnation = superblock.incarnation;
    this.onRoom = parts.onRoom;
    this.onFailure = parts.onFailure;
    const fits = start.page + BATCH_PAGES_MAX <= superblock.layout.journalPages;
    check(fits, 'the journal goes on where no batch fits', start.page);
    this.page = start.page;
    // Everything before is durable, and in the tree.
    this.completedSequence = start.sequence - 1;
    this.durableSequence = start.sequence - 1;
    this.wholeSequence = start.sequence - 1;
    this.notedSequence = start.sequence - 1;
    this.completedNote = start.sequence - 1;
    const bytes = BATCH_PAGES_MAX * PAGE_BYTES;
    const batch = (at: number) => new Batch(memory.bytes.subarray(at, at + bytes), at);
    this.filling = batch(memoryStart);
    this.spare = batch(memoryStart + bytes);
    this.filling.begin(start.sequence);
    this.token = completions.register({
      complete: (tag, result) => {
        if (tag === TAG_WRITE) this.endWrite(result);
        else if (tag === TAG_SYNC) this.endSync(result);
        else this.kicked = false;
        this.noteIdle();
      },
    });
    completions.onBatchEnd(this.batchEnd);
  }

  /** The batch that takes records. Its methods refuse them when it is full; `onRoom` tells when another can be filled. */
  get batch(): Batch {
    return this.filling;
  }

  /** Pages that can be written before a checkpoint has to make room, beside those of the batch that is being filled. */
  get freePages(): number {
    const filling = this.hasBatch ? this.filling.pages : 0;
    // At the end of the ring fewer pages than a batch may have are left out.
    return this.layout.journalPages - this.usedPages - filling - BATCH_PAGES_MAX;
  }

  /** Calls back when the batch that is being filled is on the device. It survives the death of the process then. */
  whenComplete(waiter: JournalWaiter): void {
    if (this.failure !== 0) {
      waiter.proceed(this.failure);
      return;
    }
    this.fillingWaiters.push(waiter);
    this.kick();
  }

  /** The same of the batch that had this number when it was filled: at once if it is on the device. */
  whenRecorded(sequence: number, waiter: JournalWaiter): void {
    if (this.failure === 0 && sequence <= this.completedSequence) waiter.proceed(0);
    else if (this.failure !== 0 || sequence === this.filling.sequence) this.whenComplete(waiter);
    else {
      check(sequence === this.inFlight?.sequence, 'a batch is waited for that was left out', sequence);
      this.inFlightWaiters.push(waiter);
    }
  }

  /** Calls back when a sync that begins after now, and after the batch `sequence` is complete, has ended. */
  whenSynced(sequence: number, waiter: JournalWaiter): void {
    if (this.failure !== 0) {
      waiter.proceed(this.failure);
      return;
    }
    // They are resumed in the order in which they came.
    const inOrder = sequence >= this.askedSequence && sequence <= this.filling.sequence;
    check(inOrder, 'a sync is asked for of a batch that has passed, or was not begun', sequence);
    this.askedSequence = sequence;
    this.syncWaiters.push({ sequence, waiter });
    if (sequence === this.filling.sequence) this.kick();
    else this.startSync();
  }

  /** The batch is full: sees to it that it is handed over, also if nothing else is going on. */
  makeRoom(): void {
    this.kick();
  }

  /** Sees to it that there is a batch end to come, whoever has called. */
  private kick(): void {
    if (this.kicked || this.inFlight !== null) return;
    this.kicked = true;
    this.completions.defer(this.token + TAG_KICK, 0);
  }

  /** The last sequence that holds any record so far. */
  get lastSequence(): number {
    return this.hasBatch ? this.filling.sequence : this.filling.sequence - 1;
  }

  /** Makes the batch be written although it may be empty: its header says how far everything is durable. */
  note(): number {
    this.forced = true;
    const { sequence } = this.filling;
    this.submit();
    return sequence;
  }

  /** As `note`, and calls back when that is on the device. */
  whenNoted(waiter: JournalWaiter): void {
    this.forced = true;
    this.whenComplete(waiter);
  }

  /** Whether there is something to hand over. */
  private get hasBatch(): boolean {
    return this.filling.records > 0 || this.forced;
  }

  /** Hands the batch over, if there is one and none is on its way. */
  submit(): void {
    if (!this.hasBatch || this.inFlight !== null || this.failure !== 0) return;
    this.forced = false;
    const batch = this.filling;
    const { memory } = batch;
    // Whoever adds records has seen to it that there is room. The process would rather die: nothing is lost by that.
    const hasRoom = this.usedPages + batch.pages < this.layout.journalPages;
    check(hasRoom, 'the journal is full: a batch would be written over what recovery needs', this.usedPages);
    check(this.page + batch.pages <= this.layout.journalPages, 'a batch reaches beyond the journal', this.page);
    check(batch.sequence === this.completedSequence + 1, 'the journal leaves a batch out', batch.sequence);
    const { pages } = batch;
    this.onSubmit(batch);
    check(batch.pages === pages, 'a batch grows when it is handed over', pages);
    batch.seal(this.deviceId, this.incarnation, this.page, this.wholeSequence, (from, bytes) =>
      this.memory.checksum(memory + from, bytes),
    );
    this.inFlightNote = this.wholeSequence;
    this.inFlight = batch;
    this.exchangeWaiters();
    const offset = this.layout.journalOffset + this.page * PAGE_BYTES;
    this.device.write(memory, batch.pages * PAGE_BYTES, offset, 0, this.token + TAG_WRITE);
    const next = nextBatchPage(this.layout, this.page, batch.pages);
    check(next !== this.page, 'the journal does not go on', next);
    this.usedPages += next > this.page ? next - this.page : this.layout.journalPages - this.page;
    this.page = next;
    this.filling = this.spare;
    this.spare = batch;
    this.filling.begin(batch.sequence + 1);
    this.onRoom();
  }

  private exchangeWaiters(): void {
    const none = this.inFlightWaiters;
    check(none.size === 0, 'a batch is handed over while some wait for the one before', none.size);
    this.inFlightWaiters = this.fillingWaiters;
    this.fillingWaiters = none;
  }

  private endWrite(result: number): void {
    const batch = this.inFlight;
    check(batch !== null, 'a batch has been written twice, or was not handed over');
    this.inFlight = null;
    if (result < 0) {
      this.fail(result);
      return;
    }
    this.completedSequence = batch.sequence;
    this.completedNote = this.inFlightNote;
    for (const waiter of this.inFlightWaiters.takeAll()) waiter.proceed(0);
    this.submit();
    this.startSync();
  }

  private startSync(): void {
    const { completedSequence, syncWaiters, covered } = this;
    if (syncWaiters.size === 0 || this.syncing || this.failure !== 0) return;
    check(covered.size === 0, 'a sync begins while some wait for the one before', covered.size);
    for (
      let next = syncWaiters.next;
      next !== undefined && next.sequence <= completedSequence;
      next = syncWaiters.next
    ) {
      covered.push(syncWaiters.take() as SyncWaiter);
    }
    if (covered.size === 0) return;
    this.syncing = true;
    this.syncCompleted = completedSequence;
    this.syncWhole = Math.min(completedSequence, this.firstWrites.oldest - 1);
    this.syncNote = this.completedNote;
    this.device.sync(this.token + TAG_SYNC);
  }

  private endSync(result: number): void {
    check(this.syncing, 'a sync of the journal has ended twice, or was not begun');
    this.syncing = false;
    if (result < 0) {
      this.fail(result);
      return;
    }
    check(this.syncCompleted >= this.durableSequence, 'batches that were durable are so no more', this.syncCompleted);
    check(this.syncNote <= this.syncCompleted, 'a batch says that later ones are durable', this.syncNote);
    check(this.syncWhole >= this.wholeSequence, 'batches that were whole are so no more', this.syncWhole);
    this.durableSequence = this.syncCompleted;
    this.wholeSequence = this.syncWhole;
    this.notedSequence = this.syncNote;
    for (const { waiter } of this.covered.takeAll()) waiter.proceed(0);
    this.startSync();
  }

  private fail(result: number): void {
    if (this.failure === 0) {
      this.failure = result < 0 ? result : -EIO;
      this.onFailure(this.failure);
    }
    const waiters = [...this.inFlightWaiters.takeAll(), ...this.fillingWaiters.takeAll()];
    for (const { waiter } of [...this.covered.takeAll(), ...this.syncWaiters.takeAll()]) waiters.push(waiter);
    for (const waiter of waiters) waiter.proceed(this.failure);
  }

  /** Where the next batch will be: what a checkpoint records, when everything before is in the tree. */
  get position(): JournalPosition {
    return { page: this.page, sequence: this.filling.sequence };
  }

  /** A checkpoint has made everything before this unneeded. */
  releaseBefore({ page, sequence }: JournalPosition): void {
    check(sequence <= this.filling.sequence, 'a checkpoint covers batches that are yet to come', sequence);
    const used = page <= this.page ? this.page - page : this.layout.journalPages - page + this.page;
    check(used <= this.usedPages, 'a checkpoint leaves more of the journal needed than there was', used);
    this.usedPages = used;
  }

  /** Whether the device still has something to do for it. */
  get busy(): boolean {
    return this.inFlight !== null || this.syncing || this.kicked;
  }

  /** Resolves when it has not. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.busy) this.idleWaiters.push(resolve);
      else resolve();
    });
  }

  private noteIdle(): void {
    if (this.idleWaiters.size === 0 || this.busy) return;
    for (const waiter of this.idleWaiters.takeAll()) waiter();
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    check(this.inFlight === null && !this.syncing, 'the journal is in use when its store is given up');
    this.completions.offBatchEnd(this.batchEnd);
    this.completions.unregister(this.token);
  }
}
