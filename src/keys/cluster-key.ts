/**
 * The key of a cluster over the cryptography of Node.js, and the file that it lies in: 64 hexadecimal digits and a line end, of
 * mode 0600. The key never leaves the process: it is on no command line, in no message and in no log.
 */

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { check } from '../core/check.js';
import { type ClusterKey, MAC_BYTES, NONCE_BYTES } from '../ports/cluster-key.js';
import { makeSecretFile, readSecretFile, SECRET_BYTES } from './secret-file.js';

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

const WORDS = {
  one: 'a key',
  whole: 'the key of a cluster',
  remedy: 'Copy the file whole from a node of the cluster, or name the right one.',
};

/**
 * Makes a new key and the file for it, durably. Throws `ERR_STRAKE_EXISTS` if there is one, which is never written over: it
 * may be the only one of a cluster.
 */
export function makeClusterKey(path: string): SecretKey {
  return new SecretKey(makeSecretFile(path, WORDS));
}

/**
 * Reads the key of a cluster. Throws `ERR_STRAKE_NOT_FOUND`, `ERR_STRAKE_NO_PERMISSION` if it cannot be read or others may
 * read it, and `ERR_STRAKE_INVALID_ARGUMENT` if it is no key. No message shows what is in the file.
 */
export function readClusterKey(path: string): SecretKey {
  return new SecretKey(readSecretFile(path, WORDS));
}
