/**
 * The store of a manager on LMDB (package `lmdb`, on the main thread alone, which it demands): one file in a directory of mode
 * 0700. A batch is a transaction of LMDB, durable when `commit` resolves. While it is being made so the main thread stands still,
 * and the shard that the manager runs on does not.
 *
 * ```text
 *   name of a record   its sum, 4 bytes ‖ text
 *   !store             of all records: form, sequence, how many there are, sum of their sums
 * ```
 *
 * LMDB puts no sums on what it writes. A record's is over its name and its text; the sum of all of them tells when records are
 * missing, or are those of an earlier batch.
 *
 * Fault model: a crash at any instant leaves the batch whole or not at all. A file that is damaged, cut short, or of another
 * version is refused before LMDB maps it. A copy that is older, and whole, is refused by the manager when a node has seen more.
 */

import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import type { RootDatabase } from 'lmdb';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import type { MetaBatch, MetaContents, MetaRecord, MetaStore } from '../ports/meta-store.js';
import { DirectoryLock } from './directory-lock.js';
import { STORE_ROOM_BYTES } from './limits.js';
import { checkPages, PagesProblem } from './lmdb-pages.js';

const FILE_NAME = 'metadata.mdb';
const FORM = 1;
const HEADER_KEY = '!store';
const SUM_BYTES = 4;

/** The record about all others. */
interface Header {
  readonly form: number;
  readonly sequence: number;
  readonly records: number;
  /** Modulo 2^32. */
  readonly sum: number;
}

type Database = RootDatabase<Buffer, Buffer>;

export class LmdbStore implements MetaStore {
  private readonly directory: string;
  private readonly database: Database;
  private readonly lock: DirectoryLock;
  /** Of each record that there is. */
  private readonly sums = new Map<string, number>();
  private loaded = false;

  private constructor(directory: string, database: Database, lock: DirectoryLock) {
    this.directory = directory;
    this.database = database;
    this.lock = lock;
  }

  /**
   * Makes the directory if it is not there, and a store in it that has nothing. A crash leaves no store, or this one. Rejects
   * with
   * `ERR_STRAKE_EXISTS` if there is one.
   */
  static async make(directory: string): Promise<LmdbStore> {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    checkDirectory(directory);
    const lock = await DirectoryLock.take(directory);
    try {
      const path = join(directory, FILE_NAME);
      if (exists(path)) throw new StrakeError('EXISTS', `there is the store of a manager in ${directory} already`);
      const unfinished = `${path}.new`;
      for (const leftOver of [unfinished, lockPath(unfinished)]) rmSync(leftOver, { force: true });
      const database = await openDatabase(unfinished);
      database.transactionSync(() => {
        database.put(
          keyOf(HEADER_KEY),
          encode(HEADER_KEY, { form: FORM, sequence: 0, records: 0, sum: 0 } satisfies Header),
        );
      });
      await database.close();
      // 1. The file is whole and durable; 2. it gets its name; 3. the name is durable.
      syncPath(unfinished);
      renameSync(unfinished, path);
      rmSync(lockPath(unfinished), { force: true });
      syncPath(directory);
    } catch (error) {
      throw toStoreError(directory, error);
    } finally {
      await lock.release();
    }
    return LmdbStore.open(directory);
  }

  /**
   * Opens the store of a directory, if it is whole. Rejects with `ERR_STRAKE_NOT_FOUND`, `ERR_STRAKE_NO_PERMISSION` if others
   * than its owner may read it, `ERR_STRAKE_IN_USE`, `ERR_STRAKE_DAMAGED`, `ERR_STRAKE_UNKNOWN_FEATURE`.
   */
  static async open(directory: string): Promise<LmdbStore> {
    checkDirectory(directory);
    const path = join(directory, FILE_NAME);
    const lock = await DirectoryLock.take(directory);
    let database: Database | undefined;
    try {
      if (!exists(path)) {
        throw new StrakeError('NOT_FOUND', `there is no store of a manager in ${directory}`, {
          remedy: 'Name the directory that `strake cluster init` has made.',
        });
      }
      checkPages(path);
      database = await openDatabase(path);
      const store = new LmdbStore(directory, database, lock);
      store.header();
      return store;
    } catch (error) {
      await database?.close();
      await lock.release();
      throw toStoreError(directory, error);
    }
  }

  private header(): Header {
    const value = this.database.get(keyOf(HEADER_KEY));
    if (value === undefined) throw damaged(this.directory, 'its first record is missing');
    const header = JSON.parse(decode(this.directory, HEADER_KEY, value).text) as Header;
    if (header.form !== FORM) {
      const what = `the store of a manager in ${this.directory} has form ${header.form}, and this version knows form ${FORM}`;
      throw new StrakeError('UNKNOWN_FEATURE', what);
    }
    return header;
  }

  async load(): Promise<MetaContents> {
    const { directory, database, sums } = this;
    const header = this.header();
    const records: MetaRecord[] = [];
    let sum = 0;
    sums.clear();
    for (const { key: bytes, value } of database.getRange()) {
      const key = bytes.toString('latin1');
      if (key === HEADER_KEY) continue;
      const { text, recordSum } = decode(directory, key, value);
      records.push({ key, value: text });
      sums.set(key, recordSum);
      sum = (sum + recordSum) >>> 0;
    }
    if (records.length !== header.records || sum !== header.sum) {
      const what = `its ${records.length} records are not those that it should have, which are ${header.records}`;
      throw damaged(directory, what);
    }
    this.loaded = true;
    return { sequence: header.sequence, records };
  }

  async commit({ expected, next, changes }: MetaBatch): Promise<void> {
    check(next === expected + 1, 'a batch does not follow the one before', next);
    check(this.loaded, 'a batch is committed to a store that has not been read', next);
    const { directory, database, sums } = this;
    const changed = new Map<string, number | undefined>();
    try {
      database.transactionSync(() => {
        const header = this.header();
        if (header.sequence !== expected) throw staleError(directory, header.sequence, expected);
        let { records, sum } = header;
        for (const { key, value } of changes) {
          check(!changed.has(key) && key !== HEADER_KEY, 'a batch names a record twice', changed.size);
          const before = sums.get(key);
          if (before !== undefined) [records, sum] = [records - 1, (sum - before) >>> 0];
          if (value === null) {
            if (before !== undefined) database.remove(keyOf(key));
            changed.set(key, undefined);
            continue;
          }
          const bytes = encodeText(key, value);
          const after = bytes.readUInt32LE(0);
          database.put(keyOf(key), bytes);
          [records, sum] = [records + 1, (sum + after) >>> 0];
          changed.set(key, after);
        }
        database.put(
          keyOf(HEADER_KEY),
          encode(HEADER_KEY, { form: FORM, sequence: next, records, sum } satisfies Header),
        );
      });
    } catch (error) {
      throw commitError(directory, error);
    }
    for (const [key, sum] of changed) {
      if (sum === undefined) sums.delete(key);
      else sums.set(key, sum);
    }
  }

  async close(): Promise<void> {
    await this.database.close();
    await this.lock.release();
  }
}

/** Opens the file, which is made if it is not there. Nothing native is loaded before a manager is wanted. */
async function openDatabase(path: string): Promise<Database> {
  const { open } = await import('lmdb');
  return open<Buffer, Buffer>({
    path,
    noSubdir: true,
    maxDbs: 0,
    encoding: 'binary',
    keyEncoding: 'binary',
    // A commit returns when it is durable.
    overlappingSync: false,
  });
}

function lockPath(path: string): string {
  return `${path}-lock`;
}

function keyOf(key: string): Buffer {
  return Buffer.from(key, 'latin1');
}

function encode(key: string, value: object): Buffer {
  return encodeText(key, JSON.stringify(value));
}

function encodeText(key: string, text: string): Buffer {
  const bytes = Buffer.alloc(SUM_BYTES + Buffer.byteLength(text));
  bytes.write(text, SUM_BYTES, 'utf8');
  bytes.writeUInt32LE(sumOf(key, bytes.subarray(SUM_BYTES)), 0);
  return bytes;
}

function sumOf(key: string, text: Uint8Array): number {
  return crc32(text, crc32(`${key}\0`));
}

function decode(directory: string, key: string, bytes: Buffer): { readonly text: string; readonly recordSum: number } {
  const recordSum = bytes.length < SUM_BYTES ? -1 : bytes.readUInt32LE(0);
  const text = bytes.subarray(SUM_BYTES);
  if (sumOf(key, text) !== recordSum)
    throw damaged(directory, `record ${JSON.stringify(key)} has another sum than its text`);
  return { text: text.toString('utf8'), recordSum };
}

// ---------------------------------------------------------------- what the file system says

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function syncPath(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function checkDirectory(directory: string): void {
  const stat = statSync(directory, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isDirectory()) {
    throw new StrakeError('NOT_FOUND', `there is no directory ${directory}`, {
      remedy: 'Make a cluster with `strake cluster init DIR`, or name the directory of a manager.',
    });
  }
  if ((stat.mode & 0o077) === 0) return;
  const shown = (stat.mode & 0o777).toString(8).padStart(4, '0');
  throw new StrakeError(
    'NO_PERMISSION',
    `${directory} has mode ${shown}: others than its owner may read what a manager keeps`,
    {
      remedy: `Take that away: chmod 0700 ${directory}`,
    },
  );
}

function damaged(directory: string, what: string, cause?: unknown): StrakeError {
  return new StrakeError('DAMAGED', `the store of a manager in ${directory} is damaged: ${what}`, {
    cause,
    remedy: 'Put back the newest copy of the directory. The devices of the nodes keep the maps of all volumes.',
  });
}

function staleError(directory: string, found: number, expected: number): StrakeError {
  return new StrakeError(
    'STALE_METADATA',
    `the store in ${directory} has batch ${found}, and this manager committed ${expected} last`,
  );
}

function toStoreError(directory: string, error: unknown): unknown {
  if (error instanceof PagesProblem) return damaged(directory, error.message, error);
  if (error instanceof StrakeError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const name = code === 'EACCES' || code === 'EPERM' ? 'NO_PERMISSION' : 'IO';
  return new StrakeError(name, `the store of a manager in ${directory}: ${message}`, { cause: error });
}

/** LMDB says no more than that it could not write, where there was no room. */
function commitError(directory: string, error: unknown): unknown {
  if (error instanceof StrakeError || !(error instanceof Error) || error.name === 'InternalError') return error;
  const { bavail, bsize } = statfsSync(directory);
  const full = bavail * bsize < STORE_ROOM_BYTES;
  const what = full
    ? `no room is left under ${directory}`
    : `a batch could not be written to ${directory}: ${error.message}`;
  return new StrakeError(full ? 'NO_SPACE' : 'IO', what, { cause: error });
}
