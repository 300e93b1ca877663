/** Loads that a shard puts on what it has open, by itself: devices as they are, and volumes of its node. */

import { AwayEngine } from '../across/away-engine.js';
import type { PooledBuffer } from '../core/buffer-pool.js';
import { StrakeError } from '../core/errors.js';
import type { Watch } from '../core/watch.js';
import type { ConnectionResources } from '../net/connection-resources.js';
import type { Volume } from '../ports/volume.js';
import type { UringDevice } from '../uring/device.js';
import type { Engine } from '../uring/engine.js';
import { Load, type LoadTarget } from '../worker/load.js';
import type { LoadMessage, LoadResult } from '../worker/messages.js';
import { isRaw, type Targets } from './targets.js';

function overDevice(device: UringDevice): LoadTarget {
  return {
    sizeBytes: device.geometry.sizeBytes,
    read: (memory, bytes, offset, token) => device.read(memory, bytes, offset, token),
    write: (memory, bytes, offset, token) => device.write(memory, bytes, offset, 0, token),
    sync: (token) => device.sync(token),
  };
}

/** A load on a volume. */
export function overVolume(volume: Volume): LoadTarget {
  return {
    sizeBytes: volume.sizeBytes,
    read: (memory, bytes, offset, token) => volume.read(memory, bytes, offset, token),
    write: (memory, bytes, offset, token) => volume.write(memory, bytes, offset, 0, token),
    sync: (token) => volume.flush(token),
  };
}

export class Loads {
  private readonly engine: Engine;
  private readonly watch: Watch;
  private readonly targets: Targets;
  private readonly resources: ConnectionResources;
  private running = 0;

  /** @param resources whose buffers loads use */
  constructor(engine: Engine, watch: Watch, targets: Targets, resources: ConnectionResources) {
    this.engine = engine;
    this.watch = watch;
    this.targets = targets;
    this.resources = resources;
  }

  /** Whether any goes on. */
  get busy(): boolean {
    return this.running > 0;
  }

  async begin(message: LoadMessage): Promise<LoadResult> {
    const target = this.targets.get(message.device);
    if (target === undefined) throw new StrakeError('CLOSED', 'what the load is for has been closed');
    const { engine, watch, resources } = this;
    if (!isRaw(target) && target.volume instanceof AwayEngine) return this.beginThere(target.volume, message);
    const over = isRaw(target) ? overDevice(target.device) : overVolume(target.volume);
    this.running += 1;
    watch.start();
    try {
      return await new Promise((resolve) => new Load(engine, engine, resources.pool, over, message, resolve));
    } finally {
      this.running -= 1;
    }
  }

  /** The engine's own shard puts the load on it. */
  private async beginThere(engine: AwayEngine, message: LoadMessage): Promise<LoadResult> {
    const { pool } = this.resources;
    const buffers: PooledBuffer[] = [];
    for (let index = 0; index < message.depth; index += 1) {
      const buffer = pool.take(message.blockBytes);
      if (buffer === null) throw new Error('there are not enough buffers for this depth');
      buffers.push(buffer);
    }
    const places = buffers.map(({ memory }) => memory);
    const result = await engine.load(message, places);
    // Those of a load that has failed with its shard may still be used.
    for (const buffer of buffers) pool.release(buffer);
    return result as LoadResult;
  }
}
