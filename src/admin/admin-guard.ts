/**
 * Who may use the admin API: whoever has the token, which is in a file that its owner alone can read, by a client that means this
 * manager. A page of a browser that somebody is made to look at sends another Host or an Origin, and is refused before its token
 * is looked at.
 */

import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { StrakeError } from '../core/errors.js';
import { makeSecretFile, readSecretFile } from '../keys/secret-file.js';
import { RequestError } from './admin-errors.js';

const WORDS = {
  one: 'a token',
  whole: 'the token of the admin API',
  remedy: 'Remove the file: another one is made when the manager starts.',
};

/** The token in a file, which is made if there is none. Throws as `readSecretFile`. */
export function adminToken(path: string): string {
  try {
    return Buffer.from(readSecretFile(path, WORDS)).toString('hex');
  } catch (error) {
    if (!(error instanceof StrakeError) || error.code !== 'ERR_STRAKE_NOT_FOUND') throw error;
    return Buffer.from(makeSecretFile(path, WORDS)).toString('hex');
  }
}

const digest = (text: string) => createHash('sha256').update(text).digest();

export interface GuardParts {
  readonly token: string;
  /** Where the token is, for messages. */
  readonly tokenFile: string;
  /** Names by which this manager is meant, as they are in Host: with a port where there is one. */
  readonly hosts: () => readonly string[];
}

export class Guard {
  private readonly parts: GuardParts;
  private readonly wanted: Buffer;

  constructor(parts: GuardParts) {
    this.parts = parts;
    this.wanted = digest(parts.token);
  }

  /** Throws a `RequestError` if a request is meant for another server, or comes from a page of one. */
  checkSource({ host, origin }: IncomingHttpHeaders): void {
    const hosts = this.parts.hosts();
    if (host === undefined || !hosts.includes(host.toLowerCase())) {
      const words = `the request is for host ${JSON.stringify(host)}, and this is ${hosts[0]}`;
      throw new RequestError(403, 'NO_PERMISSION', words, `Ask ${hosts.join(' or ')}.`);
    }
    if (origin !== undefined && !hosts.some((name) => origin.toLowerCase() === `http://${name}`)) {
      const words = `the request comes from a page of ${JSON.stringify(origin)}`;
      throw new RequestError(403, 'NO_PERMISSION', words, 'Pages of other servers may not use this one.');
    }
  }

  /** Throws a `RequestError` if a request does not have the token. How long that takes says nothing of where it differs. */
  checkToken({ authorization }: IncomingHttpHeaders): void {
    const token = /^Bearer ([\x21-\x7e]{1,256})$/i.exec(authorization ?? '')?.[1] ?? '';
    if (timingSafeEqual(digest(token), this.wanted)) return;
    const why = authorization === undefined ? 'the request has no token' : 'the token of the request is another one';
    throw new RequestError(
      401,
      'NO_PERMISSION',
      why,
      `Send "Authorization: Bearer" and what is in ${this.parts.tokenFile}.`,
    );
  }
}
