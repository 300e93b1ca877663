/** Unix sockets that only their owner and root can use, and that a process which has died may have left behind. */

import { existsSync, lstatSync, unlinkSync } from 'node:fs';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { type ErrorName, StrakeError } from '../core/errors.js';
import { SOCKET_PATH_MAX } from './limits.js';

/** Closing does not wait longer than this for answers. */
const CLOSE_MS = 2_000;

/** Whether somebody answers at a socket. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const client = connect(path);
    client.on('connect', () => {
      client.destroy();
      resolve(true);
    });
    client.on('error', () => resolve(false));
  });
}

/**
 * Removes a socket that a process that has died left behind, and nothing else. Rejects with `ERR_STRAKE_ADDRESS` if its path is
 * too long or something else is there, and with `ERR_STRAKE_ADDRESS_IN_USE` if somebody answers.
 */
export async function prepareSocket(path: string): Promise<void> {
  const length = Buffer.byteLength(path);
  if (length > SOCKET_PATH_MAX) {
    const what = `${path}: the path of a socket has at most ${SOCKET_PATH_MAX} bytes, and this one has ${length}`;
    throw new StrakeError('ADDRESS', what);
  }
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new StrakeError('ADDRESS', `${path} is in the way: it is not a socket`);
  if (await answers(path)) {
    throw new StrakeError('ADDRESS_IN_USE', `a node answers at ${path} already`, {
      remedy: 'Stop it (`strake down`), or give this one another folder or another control socket.',
    });
  }
  unlinkSync(path);
}

const LISTEN_ERRORS = new Map<string, ErrorName>([
  ['EADDRINUSE', 'ADDRESS_IN_USE'],
  ['EACCES', 'NO_PERMISSION'],
]);

/**
 * Listens on a socket, mode 0600. Rejects with `ERR_STRAKE_ADDRESS_IN_USE`, `ERR_STRAKE_ADDRESS` or `ERR_STRAKE_NO_PERMISSION`.
 */
export function listenAt(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.on('error', (error: NodeJS.ErrnoException) => {
      // A folder that is not there comes as a lack of permission.
      if (!existsSync(dirname(path))) {
        reject(new StrakeError('ADDRESS', `cannot listen on ${path}: its folder does not exist`));
        return;
      }
      reject(
        new StrakeError(LISTEN_ERRORS.get(error.code ?? '') ?? 'ADDRESS', `cannot listen on ${path}: ${error.message}`),
      );
    });
    // The socket is bound within this call, so there is no moment at which others could connect.
    const mask = process.umask(0o177);
    server.listen(path, resolve);
    process.umask(mask);
  });
}

/** Answers what is in progress, for at most 2 seconds. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.closeAllConnections(), CLOSE_MS);
    server.close(() => {
      clearTimeout(timer);
      resolve();
    });
    server.closeIdleConnections();
  });
}
