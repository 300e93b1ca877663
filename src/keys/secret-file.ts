/**
 * Files with a secret of 32 bytes: 64 hexadecimal digits and a line end, of mode 0600. What is in one is on no command line, in
 * no message and in no log.
 */

import { randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { StrakeError } from '../core/errors.js';

export const SECRET_BYTES = 32;
const TEXT = /^[0-9a-f]{64}\n?$/;
/** What is read of a file: more than a secret has, so that a longer one shows. */
const READ_BYTES = 2 * SECRET_BYTES + 16;

/** What a secret is called in messages. */
export interface SecretWords {
  /** With an article: `a key`. */
  readonly one: string;
  /** With what it is for: `the key of a cluster`. */
  readonly whole: string;
  /** What to do where a file is none. */
  readonly remedy: string;
}

/**
 * Makes a new secret and the file for it, durably. Throws `ERR_STRAKE_EXISTS` if there is one, which is never written over, and
 * as `readSecretFile`.
 */
export function makeSecretFile(path: string, words: SecretWords): Uint8Array {
  const secret = randomBytes(SECRET_BYTES);
  let file: number;
  try {
    file = openSync(path, 'wx', 0o600);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') {
      throw new StrakeError('EXISTS', `${path} exists, and is not written over: it may be ${words.whole}`, { cause });
    }
    throw fileError(path, cause, words);
  }
  try {
    writeSync(file, `${secret.toString('hex')}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  return new Uint8Array(secret);
}

/**
 * Reads a secret. Throws `ERR_STRAKE_NOT_FOUND`, `ERR_STRAKE_NO_PERMISSION` if it cannot be read or others may read it, and
 * `ERR_STRAKE_INVALID_ARGUMENT` if it is none. No message shows what is in the file.
 */
export function readSecretFile(path: string, words: SecretWords): Uint8Array {
  let file: number;
  try {
    // A pipe that nobody writes to is not waited for.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw fileError(path, cause, words);
  }
  try {
    const { mode } = fstatSync(file);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw noSecret(path, 'it is no regular file', words);
    if ((mode & 0o077) !== 0) {
      const shown = (mode & 0o777).toString(8).padStart(4, '0');
      const name = words.one.replace(/^a /, '');
      throw new StrakeError('NO_PERMISSION', `${path} has mode ${shown}: others than its owner may use the ${name}`, {
        remedy: `Take that away (chmod 0600 ${path}). If others may have read it, make a new ${name}.`,
      });
    }
    const bytes = Buffer.alloc(READ_BYTES);
    const text = bytes.toString('latin1', 0, readSync(file, bytes, 0, READ_BYTES, 0));
    if (!TEXT.test(text)) throw noSecret(path, `${words.one} is 64 hexadecimal digits and a line end`, words);
    return new Uint8Array(Buffer.from(text.slice(0, 2 * SECRET_BYTES), 'hex'));
  } finally {
    closeSync(file);
  }
}

function noSecret(path: string, why: string, { whole, remedy }: SecretWords): StrakeError {
  return new StrakeError('INVALID_ARGUMENT', `${path} is not ${whole}: ${why}`, { remedy });
}

function fileError(path: string, cause: unknown, { whole }: SecretWords): StrakeError {
  const { code } = cause as NodeJS.ErrnoException;
  const name = whole.replace(/^the /, '');
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new StrakeError('NOT_FOUND', `there is no ${name} at ${path}`, { cause });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new StrakeError('NO_PERMISSION', `${whole} at ${path} cannot be used: no permission`, { cause });
  }
  return new StrakeError('IO', `${whole} at ${path}: ${(cause as Error).message}`, { cause });
}
