/** The program of the worker that has the manager of a cluster. */

import { ManagerShard } from './shard/manager-shard.js';
import type { ShardStart } from './worker/messages.js';

/** Serves until told to stop. */
export default function serve(start: ShardStart): Promise<void> {
  return new Promise((resolve) => {
    new ManagerShard(start, () => {
      start.port.close();
      resolve();
    });
  });
}
