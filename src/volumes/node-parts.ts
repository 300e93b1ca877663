/** What the operations of a storage node work on. */

import type { DeviceHost } from '../node/device-host.js';
import type { NodeDevice } from '../node/node-device.js';
import type { DeviceCatalog } from './device-catalog.js';
import type { NodeTurns } from './node-turns.js';
import type { StorageEvent } from './storage-events.js';
import type { VolumeDirectory } from './volume-directory.js';
import type { VolumeHost } from './volume-host.js';

/** Who is told of what happens in a node. */
export interface NodeHooks {
  readonly onEvent: (event: StorageEvent) => void;
  /** Volumes serve that another one's name had kept from it. */
  readonly onResolved: () => void;
}

export interface NodeParts {
  readonly devices: DeviceHost;
  /** The devices that are open, by id. */
  readonly stores: ReadonlyMap<string, NodeDevice>;
  readonly volumes: VolumeDirectory;
  readonly catalog: DeviceCatalog;
  readonly host: VolumeHost;
  readonly turns: NodeTurns;
  readonly hooks: NodeHooks;
}
