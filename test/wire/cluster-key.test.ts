/** The key of a cluster, and the file that it lies in. */

import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { StrakeError } from '#strake/core/errors.js';
import { makeClusterKey, readClusterKey, SecretKey } from '#strake/keys/cluster-key.js';
import { check, root, run } from '../support/check.js';
import { scratchFolder } from '../support/scratch.js';

/** The error that an attempt ends with. */
function refused(attempt: () => unknown): StrakeError {
  try {
    attempt();
  } catch (error) {
    assert.instance(error, StrakeError, String(error));
    return error as StrakeError;
  }
  throw new Error('there is no error');
}

/** HMAC by its definition (RFC 2104), for keys that are shorter than a block of SHA-256. */
function definedMac(secret: Uint8Array, message: Uint8Array): Buffer {
  const pad = (value: number) => Buffer.alloc(64, 0).map((_, at) => (secret[at] ?? 0) ^ value);
  const hash = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();
  return hash(pad(0x5c), hash(pad(0x36), message));
}

check('a message is authenticated by HMAC-SHA256, and verified by all of it or its beginning', () => {
  const secret = Uint8Array.from({ length: 32 }, (_, at) => 7 * at);
  const key = new SecretKey(secret);
  for (const text of ['', 'abc', 'x'.repeat(1000)]) {
    const message = Buffer.from(text);
    const mac = key.authenticate(message);
    assert.equal([...mac], [...definedMac(secret, message)]);
    assert.ok(key.verify(message, mac));
    assert.ok(key.verify(message, mac.subarray(0, 16)));
    for (const length of [0, 1, 15]) assert.not(key.verify(message, mac.subarray(0, length)), `${length} bytes`);
    assert.not(key.verify(message, Buffer.concat([mac, Uint8Array.of(0)])));
    assert.not(key.verify(Buffer.from(`${text}!`), mac));
  }
  // What was given can be wiped afterwards, and nothing shows it.
  const before = key.authenticate(secret);
  secret.fill(0);
  assert.equal(key.authenticate(Uint8Array.from({ length: 32 }, (_, at) => 7 * at)), before);
  assert.equal(Object.keys(key), []);
  assert.is(JSON.stringify(key), '{}');
  assert.throws(() => new SecretKey(new Uint8Array(31)), /another length/);
});

check('nonces do not come again', () => {
  const key = new SecretKey(new Uint8Array(32));
  const seen = new Set(Array.from({ length: 1000 }, () => Buffer.from(key.nonce()).toString('hex')));
  assert.is(seen.size, 1000);
});

check('a file is made for its owner alone, is never written over, and is read again', () => {
  const path = join(scratchFolder(), 'made.key');
  const made = makeClusterKey(path);
  assert.is(statSync(path).mode & 0o777, 0o600);
  assert.match(readFileSync(path, 'latin1'), /^[0-9a-f]{64}\n$/);
  assert.equal(readClusterKey(path).authenticate(Uint8Array.of(1)), made.authenticate(Uint8Array.of(1)));
  const text = readFileSync(path, 'latin1');
  assert.is(refused(() => makeClusterKey(path)).code, 'ERR_STRAKE_EXISTS');
  assert.is(readFileSync(path, 'latin1'), text);
  assert.is(refused(() => makeClusterKey(join(path, 'below'))).code, 'ERR_STRAKE_NOT_FOUND');
});

check('what is no key, or could be read by others, is refused, and is not shown', () => {
  const dir = scratchFolder();
  const path = join(dir, 'key');
  const secret = 'ab'.repeat(32);
  for (const [text, code] of [
    ['', 'ERR_STRAKE_INVALID_ARGUMENT'],
    [secret.slice(1), 'ERR_STRAKE_INVALID_ARGUMENT'],
    [`${secret}0`, 'ERR_STRAKE_INVALID_ARGUMENT'],
    [`${secret}\n\n`, 'ERR_STRAKE_INVALID_ARGUMENT'],
    [secret.toUpperCase(), 'ERR_STRAKE_INVALID_ARGUMENT'],
    [`${secret}\n${'x'.repeat(10_000)}`, 'ERR_STRAKE_INVALID_ARGUMENT'],
  ] as const) {
    writeFileSync(path, text, { mode: 0o600 });
    const error = refused(() => readClusterKey(path));
    assert.is(error.code, code, text.slice(0, 70));
    assert.not.match(`${error.message} ${error.remedy}`, /abab/);
  }
  writeFileSync(path, `${secret}\n`);
  for (const mode of [0o640, 0o604, 0o660, 0o644, 0o601]) {
    chmodSync(path, mode);
    assert.is(refused(() => readClusterKey(path)).code, 'ERR_STRAKE_NO_PERMISSION', mode.toString(8));
  }
  for (const mode of [0o600, 0o400]) {
    chmodSync(path, mode);
    readClusterKey(path);
  }
  mkdirSync(join(dir, 'folder'), { mode: 0o700 });
  assert.is(refused(() => readClusterKey(join(dir, 'folder'))).code, 'ERR_STRAKE_INVALID_ARGUMENT');
  assert.is(refused(() => readClusterKey(join(dir, 'none'))).code, 'ERR_STRAKE_NOT_FOUND');
  symlinkSync(path, join(dir, 'link'));
  readClusterKey(join(dir, 'link'));
  assert.is(refused(() => readClusterKey('/dev/null')).code, 'ERR_STRAKE_INVALID_ARGUMENT');
});

check('a file that may not be read is an error that says so', [root], () => {
  const path = join(scratchFolder(), 'private.key');
  makeClusterKey(path);
  // Root reads everything, so that it has to become somebody else for this.
  process.seteuid?.(65_534);
  try {
    assert.match(refused(() => readClusterKey(path)).code, /NO_PERMISSION|NOT_FOUND/);
  } finally {
    process.seteuid?.(0);
  }
});

run();
