/**
 * The key of a cluster over the cryptography of Node.js, and the file that it lies in: 64 hexadecimal digits and a line end, of
 * mode 0600. The key never leaves the process: it is on no command line, in no message and in no log.
 */

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { type ClusterKey, MAC_BYTES, NONCE_BYTES } from '../ports/cluster-key.js';

const SECRET_BYTES = 32;
const TEXT = /^[0-9a-f]{64}\n?$/;
/** What is read of a file: more than a key has, so that a longer one shows. */
const READ_BYTES = 2 * SECRET_BYTES + 16;
/** The least that a shortened proof has. */
const SHORT_MAC_BYTES = 16;

export class SecretKey implements ClusterKey {
  readonly #secret: Uint8Array;

  /** @param secret 32 bytes */
  constructor(secret: Uint8Array) {
    check(secret.length === SECRET_BYTES, 'the key of a cluster has another length', secret.length);
    this.#secret = secret.slice();
  }

  authenticate(message: Uint8Array): Uint8Array {
    return new Uint8Array(createHmac('sha256', this.#secret).update(message).digest());
  }

  verify(message: Uint8Array, mac: Uint8Array): boolean {
    if (mac.length < SHORT_MAC_BYTES || mac.length > MAC_BYTES) return false;
    return timingSafeEqual(this.authenticate(message).subarray(0, mac.length), mac);
  }

  nonce(): Uint8Array {
    return new Uint8Array(randomBytes(NONCE_BYTES));
  }
}

/**
 * Makes a new key and the file for it, durably. Throws `ERR_STRAKE_EXISTS` if there is one, which is never written over: it
 * may be the only one of a cluster.
 */
export function makeClusterKey(path: string): SecretKey {
  const secret = randomBytes(SECRET_BYTES);
  let file: number;
  try {
    file = openSync(path, 'wx', 0o600);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') {
      throw new StrakeError('EXISTS', `${path} exists, and is not written over: it may be the key of a cluster`, {
        cause,
      });
    }
    throw fileError(path, cause);
  }
  try {
    writeSync(file, `${secret.toString('hex')}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  return new SecretKey(secret);
}

/**
 * Reads the key of a cluster. Throws `ERR_STRAKE_NOT_FOUND`, `ERR_STRAKE_NO_PERMISSION` if it cannot be read or others may
 * read it, and `ERR_STRAKE_INVALID_ARGUMENT` if it is no key. No message shows what is in the file.
 */
export function readClusterKey(path: string): SecretKey {
  let file: number;
  try {
    // A pipe that nobody writes to is not waited for.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw fileError(path, cause);
  }
  try {
    const { mode } = fstatSync(file);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw noKey(path, 'it is no regular file');
    if ((mode & 0o077) !== 0) {
      const shown = (mode & 0o777).toString(8).padStart(4, '0');
      throw new StrakeError('NO_PERMISSION', `${path} has mode ${shown}: others than its owner may use the key`, {
        remedy: `Take that away (chmod 0600 ${path}). If others may have read it, make a new key.`,
      });
    }
    const bytes = Buffer.alloc(READ_BYTES);
    const text = bytes.toString('latin1', 0, readSync(file, bytes, 0, READ_BYTES, 0));
    if (!TEXT.test(text)) throw noKey(path, 'a key is 64 hexadecimal digits and a line end');
    return new SecretKey(Buffer.from(text.slice(0, 2 * SECRET_BYTES), 'hex'));
  } finally {
    closeSync(file);
  }
}

function noKey(path: string, why: string): StrakeError {
  return new StrakeError('INVALID_ARGUMENT', `${path} is not the key of a cluster: ${why}`, {
    remedy: 'Copy the file whole from a node of the cluster, or name the right one.',
  });
}

function fileError(path: string, cause: unknown): StrakeError {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new StrakeError('NOT_FOUND', `there is no key of a cluster at ${path}`, { cause });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new StrakeError('NO_PERMISSION', `the key of the cluster at ${path} cannot be used: no permission`, {
      cause,
    });
  }
  return new StrakeError('IO', `the key of the cluster at ${path}: ${(cause as Error).message}`, { cause });
}
