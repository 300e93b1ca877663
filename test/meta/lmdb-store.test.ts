/** The store of a manager on LMDB: what is answered survives the death of the process, and what is not whole is refused. */

import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { StrakeError } from '#strake/core/errors.js';
import { LmdbStore } from '#strake/meta/lmdb-store.js';
import type { MetaContents } from '#strake/ports/meta-store.js';
import { check, repetitions, root, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { batchOf } from '../support/meta-batches.js';
import { atEnd, output, project, scratchFolder, startProcess } from '../support/scratch.js';

let made = 0;

function newDirectory(): string {
  made += 1;
  return join(scratchFolder(), `manager-${made}`);
}

/** What a store has after so many batches. */
function contentsAfter(sequence: number): MetaContents {
  const records = new Map<string, string>();
  for (let next = 1; next <= sequence; next += 1) {
    for (const { key, value } of batchOf(next).changes) {
      if (value === null) records.delete(key);
      else records.set(key, value);
    }
  }
  const sorted = [...records].sort(([one], [other]) => (one < other ? -1 : 1));
  return { sequence, records: sorted.map(([key, value]) => ({ key, value })) };
}

/** A directory with a store of so many batches, which nobody has open. */
async function storeOf(batches: number): Promise<string> {
  const directory = newDirectory();
  const store = await LmdbStore.make(directory);
  await store.load();
  for (let next = 1; next <= batches; next += 1) await store.commit(batchOf(next));
  await store.close();
  return directory;
}

async function contentsOf(directory: string): Promise<MetaContents> {
  const store = await LmdbStore.open(directory);
  try {
    return await store.load();
  } finally {
    await store.close();
  }
}

const fileOf = (directory: string) => join(directory, 'metadata.mdb');

/** Another directory with the same file. */
function copyOf(directory: string): string {
  const copy = newDirectory();
  mkdirSync(copy, { mode: 0o700 });
  copyFileSync(fileOf(directory), fileOf(copy));
  return copy;
}

check('what was committed is there when the store is opened again', async () => {
  const directory = await storeOf(300);
  assert.is(statSync(directory).mode & 0o777, 0o700);
  assert.equal(await contentsOf(directory), contentsAfter(300));
  const again = await LmdbStore.open(directory);
  await again.load();
  await again.commit(batchOf(301));
  await again.close();
  assert.equal(await contentsOf(directory), contentsAfter(301));
});

check('a batch that another sequence was expected for changes nothing', async () => {
  const directory = await storeOf(5);
  const store = await LmdbStore.open(directory);
  await store.load();
  for (const expected of [4, 6]) {
    const late = { ...batchOf(expected + 1), expected, next: expected + 1 };
    await failure('STALE_METADATA', store.commit(late));
  }
  assert.equal(await store.load(), contentsAfter(5));
  await store.commit(batchOf(6));
  await store.close();
  assert.equal(await contentsOf(directory), contentsAfter(6));
});

check('a store is made once, used by one process, and read by its owner alone', async () => {
  const directory = await storeOf(1);
  await failure('EXISTS', LmdbStore.make(directory));
  const store = await LmdbStore.open(directory);
  const used = await failure('IN_USE', LmdbStore.open(directory));
  assert.match(used.message, directory);
  await store.close();
  chmodSync(directory, 0o750);
  const open = await failure('NO_PERMISSION', LmdbStore.open(directory));
  assert.match(open.remedy, 'chmod 0700');
  await failure('NOT_FOUND', LmdbStore.open(join(directory, 'nothing')));
  const empty = newDirectory();
  mkdirSync(empty, { mode: 0o700 });
  await failure('NOT_FOUND', LmdbStore.open(empty));
  assert.not.ok(statSync(fileOf(empty), { throwIfNoEntry: false }), 'nothing is made by opening');
});

check('what is left of one that was being made is not taken for a store', async () => {
  const directory = newDirectory();
  mkdirSync(directory, { mode: 0o700 });
  writeFileSync(`${fileOf(directory)}.new`, 'half of it');
  await failure('NOT_FOUND', LmdbStore.open(directory));
  const store = await LmdbStore.make(directory);
  assert.equal(await store.load(), { sequence: 0, records: [] });
  await store.close();
});

check('every batch that was answered survives kill -9 at any instant', async () => {
  const directory = await storeOf(0);
  let answered = 0;
  for (let round = 0; round < repetitions(60, 6); round += 1) {
    const child = startProcess(process.execPath, [
      '--import',
      'tsx',
      join(project, 'test/support/meta-child.ts'),
      directory,
    ]);
    let printed = '';
    const wanted = 1 + ((round * 37) % 50);
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.stdout?.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
      if (printed.split('\n').length > wanted) child.kill('SIGKILL');
    });
    child.stderr?.on('data', (chunk: Buffer) => process.stderr.write(chunk));
    await ended;
    const lines = printed.split('\n').slice(0, -1);
    assert.ok(lines.length >= wanted, `${lines.length} batches before it was killed`);
    const last = Number(lines.at(-1));
    assert.ok(last > answered);
    answered = last;
    const found = await contentsOf(directory);
    assert.ok(found.sequence === last || found.sequence === last + 1, `${found.sequence} after ${last} was answered`);
    assert.equal(found, contentsAfter(found.sequence));
    answered = found.sequence;
  }
});

check('a file that is cut short is refused, wherever that is', async () => {
  const directory = await storeOf(120);
  const whole = statSync(fileOf(directory)).size;
  for (const bytes of [
    0,
    1,
    100,
    4095,
    4096,
    4097,
    8191,
    8192,
    12_288,
    whole / 2,
    whole - 8192,
    whole - 4096,
    whole - 1,
  ]) {
    const copy = copyOf(directory);
    truncateSync(fileOf(copy), bytes);
    try {
      assert.equal(await contentsOf(copy), contentsAfter(120));
      assert.ok(bytes >= whole - 8192, `a file of ${bytes} bytes in place of ${whole} is whole`);
    } catch (error) {
      assert.instance(error, StrakeError, String(error));
      const { code, remedy } = error as StrakeError;
      assert.is(code, 'ERR_STRAKE_DAMAGED');
      assert.match(remedy, 'newest copy');
    }
    rmSync(copy, { recursive: true });
  }
});

/** What became of a store in which some bits were flipped: it is refused, or nothing that counts was hit. */
async function judge(directory: string, batches: number, what: string): Promise<'refused' | 'whole'> {
  try {
    const store = await LmdbStore.open(directory);
    try {
      const found = await store.load();
      assert.equal(found, contentsAfter(batches), what);
      // What is not read may still be written by: the next batch.
      await store.commit(batchOf(batches + 1));
    } finally {
      await store.close();
    }
  } catch (error) {
    if (!(error instanceof StrakeError)) throw error;
    assert.ok(['ERR_STRAKE_DAMAGED', 'ERR_STRAKE_UNKNOWN_FEATURE'].includes(error.code), `${what}: ${error.message}`);
    return 'refused';
  }
  assert.equal(await contentsOf(directory), contentsAfter(batches + 1), `${what}, after another batch`);
  return 'whole';
}

check('a file with flipped bits is refused, unless nothing that counts was hit', async () => {
  const directory = await storeOf(120);
  const whole = readFileSync(fileOf(directory));
  const copy = copyOf(directory);
  const seen = { refused: 0, whole: 0 };
  const step = Math.floor(whole.length / repetitions(4000, 250));
  // The beginning of each page is looked at closely, and both metas.
  const places = new Set<number>();
  for (let at = 0; at < 200; at += 1) places.add(at).add(4096 + at);
  for (let at = 0; at < whole.length; at += step) places.add(at + ((at * 7) % step));
  for (let page = 0; page < whole.length; page += 4096) places.add(page + ((page / 4096) % 32));
  for (const at of places) {
    const bytes = Buffer.from(whole);
    bytes[at] ^= 1 << (at % 8);
    rmSync(`${fileOf(copy)}-lock`, { force: true });
    writeFileSync(fileOf(copy), bytes);
    seen[await judge(copy, 120, `bit ${at % 8} of byte ${at}`)] += 1;
  }
  assert.ok(seen.refused > 20 && seen.whole > 20, JSON.stringify(seen));
});

check('a page of an earlier batch in place of its successor is refused', async () => {
  const directory = await storeOf(100);
  const before = readFileSync(fileOf(directory));
  const store = await LmdbStore.open(directory);
  await store.load();
  for (let next = 101; next <= 104; next += 1) await store.commit(batchOf(next));
  await store.close();
  const after = readFileSync(fileOf(directory));
  const copy = copyOf(directory);
  let differing = 0;
  for (let at = 8192; at < Math.min(before.length, after.length); at += 4096) {
    if (before.subarray(at, at + 4096).equals(after.subarray(at, at + 4096))) continue;
    differing += 1;
    const bytes = Buffer.from(after);
    before.copy(bytes, at, at, at + 4096);
    rmSync(`${fileOf(copy)}-lock`, { force: true });
    writeFileSync(fileOf(copy), bytes);
    await judge(copy, 104, `page ${at / 4096}`);
  }
  assert.ok(differing > 3, `${differing} pages differ`);
});

check('a batch for which there is no room fails whole, and the store goes on when there is', [root], async () => {
  const folder = newDirectory();
  mkdirSync(folder);
  output('mount', '-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', folder);
  const unmount = atEnd(() => output('umount', '--lazy', folder));
  const directory = join(folder, 'manager');
  const store = await LmdbStore.make(directory);
  await store.load();
  let sequence = 0;
  let error: unknown;
  while (error === undefined && sequence < 500) {
    const next = sequence + 1;
    const changes = [{ key: `big/${next}`, value: 'x'.repeat(20_000) }];
    try {
      await store.commit({ expected: sequence, next, changes });
      sequence = next;
    } catch (caught) {
      error = caught;
    }
  }
  assert.instance(error, StrakeError, String(error));
  assert.is((error as StrakeError).code, 'ERR_STRAKE_NO_SPACE', (error as StrakeError).message);
  assert.match((error as StrakeError).message, directory);
  const found = await store.load();
  assert.is(found.sequence, sequence);
  assert.is(found.records.length, sequence);
  output('mount', '-o', 'remount,size=4m', folder);
  await store.commit({ expected: sequence, next: sequence + 1, changes: [{ key: 'small', value: '1' }] });
  await store.close();
  assert.is((await contentsOf(directory)).sequence, sequence + 1);
  unmount();
  output('umount', folder);
});

run();
