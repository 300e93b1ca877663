/** What an NBD server serves, as a block device: a file by nbdfuse, under a loop device. */

import { type ChildProcess, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { atEnd, ending, loopDevice, scratchFolder, startProcess, until } from './scratch.js';

export interface NbdLoop {
  /** The block device. */
  readonly path: string;
  /** Takes it apart, once nobody uses it any more, and ends its server. */
  remove(): Promise<void>;
}

/** Shows what `server` serves at a unix socket; `served` resolves when it has ended. */
export async function showAsLoop(server: ChildProcess, served: Promise<unknown>, socket: string): Promise<NbdLoop> {
  const mount = mkdtempSync(join(scratchFolder(), 'disk-'));
  const shown = ending(startProcess('nbdfuse', [mount, `nbd+unix:///?socket=${socket}`]));
  const unmount = () => {
    execFileSync('sh', ['-c', `! grep -q " ${mount} " /proc/mounts || umount --lazy ${mount}`]);
  };
  const forget = [atEnd(unmount)];
  await until('nbdfuse to show the disk', () => readdirSync(mount).includes('nbd'));
  const loop = loopDevice(join(mount, 'nbd'));
  // A disk that does not answer cannot be taken apart, so this comes first.
  forget.push(atEnd(() => server.kill('SIGKILL')));
  return {
    path: loop.path,
    remove: async () => {
      loop.detach();
      unmount();
      server.kill('SIGKILL');
      await served;
      await shown;
      for (const one of forget) one();
    },
  };
}
