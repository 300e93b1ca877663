/**
 * Who uses the directory of a manager: one process at a time. The lock is the name of a socket without a file, which ends with
 * its process however that ends. A process in another network namespace does not see it: a second manager there fails at its
 * first commit, as each begins with a comparison.
 */

import { statSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { StrakeError } from '../core/errors.js';

export class DirectoryLock {
  private readonly server: Server;

  private constructor(server: Server) {
    this.server = server;
  }

  /** Rejects with `ERR_STRAKE_IN_USE` if another process, or this one, has the directory. */
  static take(directory: string): Promise<DirectoryLock> {
    const { dev, ino } = statSync(directory);
    const server = createServer((socket) => socket.destroy());
    // It keeps no process alive.
    server.unref();
    return new Promise((resolve, reject) => {
      server.once('error', (cause) => {
        const used = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE';
        const what = used ? `another manager uses ${directory}` : `${directory} cannot be locked: ${cause.message}`;
        reject(new StrakeError(used ? 'IN_USE' : 'IO', what, used ? { remedy: 'Stop that one first.' } : { cause }));
      });
      server.listen(`\0strake-manager-${dev}-${ino}`, () => resolve(new DirectoryLock(server)));
    });
  }

  release(): Promise<void> {
    return new Promise((resolve) => this.server.close(() => resolve()));
  }
}
