/** The transport port over the engine, and how to listen and connect. */

import { lstatSync, rmSync } from 'node:fs';
import { EACCES, EADDRINUSE, EEXIST, EINVAL, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import { NO_FILE, type StreamAddress, type Transport } from '../ports/transport.js';
import { type Engine, OP_ACCEPT, OP_RECEIVE } from './engine.js';
import { nativeError } from './native.js';

export class UringTransport implements Transport {
  private readonly engine: Engine;

  constructor(engine: Engine) {
    this.engine = engine;
  }

  accept(listener: number, token: number, flags = 0): void {
    const { engine } = this;
    const word = engine.entry(OP_ACCEPT, token, listener);
    engine.words[word + 7] = flags;
  }

  connect(address: StreamAddress, token: number): number {
    const { native } = this.engine;
    try {
      if ('path' in address) return native.connectUnix(address.path, token);
      return native.connectTcp(address.host, address.port, token);
    } catch (error) {
      this.engine.defer(token, -(nativeError(error, 'ADDRESS').errno ?? EINVAL));
      return NO_FILE;
    }
  }

  receive(file: number, memory: number, lengthBytes: number, flags: number, token: number): void {
    const { engine } = this;
    const word = engine.entry(OP_RECEIVE, token, file);
    engine.words[word + 3] = lengthBytes;
    engine.words[word + 6] = memory;
    engine.words[word + 7] = flags;
  }

  addPiece(memory: number, lengthBytes: number): void {
    this.engine.addPiece(memory, lengthBytes);
  }

  send(file: number, token: number): void {
    this.engine.sendPieces(file, token);
  }

  shutdown(file: number): void {
    this.engine.native.shutdownSocket(file);
  }

  close(file: number): void {
    this.engine.native.closeFile(file);
  }
}

/** A listening socket: its file, and its port if it has one. */
export interface Listener {
  readonly file: number;
  readonly port: number | undefined;
  /** Removes the socket's file, if it has one and it is still this one. */
  removePath(): void;
}

/** Listens. Throws `ERR_STRAKE_ADDRESS_IN_USE`, `ERR_STRAKE_NO_PERMISSION` or `ERR_STRAKE_ADDRESS`. */
export function listen(engine: Engine, address: StreamAddress): Listener {
  const where = 'path' in address ? address.path : `${address.host}:${address.port}`;
  try {
    if ('path' in address) return listenUnix(engine, address.path);
    return { ...engine.native.listenTcp(address.host, address.port), removePath: () => {} };
  } catch (error) {
    throw listenError(nativeError(error, 'ADDRESS'), where);
  }
}

function listenUnix(engine: Engine, path: string): Listener {
  const file = engine.native.listenUnix(path);
  const made = lstatSync(path, { bigint: true });
  const removePath = () => {
    const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    if (found?.ino === made.ino && found.dev === made.dev) rmSync(path, { force: true });
  };
  return { file, port: undefined, removePath };
}

function listenError(error: StrakeError, where: string): StrakeError {
  const options = { cause: error, ...(error.errno === undefined ? {} : { errno: error.errno }), syscall: 'listen' };
  switch (error.errno) {
    case EADDRINUSE:
      return new StrakeError('ADDRESS_IN_USE', `another server listens at ${where}`, options);
    case EEXIST:
      return new StrakeError('ADDRESS', `cannot listen at ${where}: a file that is not a socket is there`, options);
    case EACCES:
    case EPERM:
      return new StrakeError('NO_PERMISSION', `cannot listen at ${where}: no permission`, {
        ...options,
        remedy: 'Choose a path in a folder of yours, or a port above 1023.',
      });
    case ENAMETOOLONG:
      return new StrakeError('ADDRESS', `cannot listen at ${where}: a socket's path has at most 107 bytes`, options);
    case ENOENT:
    case ENOTDIR:
      return new StrakeError('ADDRESS', `cannot listen at ${where}: the folder does not exist`, options);
    default:
      return new StrakeError('ADDRESS', `cannot listen at ${where}: ${error.message}`, options);
  }
}
