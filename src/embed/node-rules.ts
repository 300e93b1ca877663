/** What the arguments of a node's methods have to be. */

import {
  boolean,
  callback,
  dictionary,
  fields,
  id,
  list,
  newVolumeName,
  oneOf,
  optional,
  options as optionsOf,
  path,
  port,
  type Rule,
  signal,
  sizeBytes,
  text,
  volumeName,
  whole,
} from '../core/arguments.js';
import { DEVICE_WAIT_MS_MAX, LOST_DEVICES_MAX, NODE_PATHS_MAX } from '../core/limits.js';
import { HOST_BYTES_MAX, PEERS_MAX, SHARDS_MAX } from './limits.js';
import type { CreateVolumeOptions, NodeAddress, OpenNodeOptions } from './node-types.js';
import { faultRules } from './rules.js';

const lostDevices = list(id, 1, LOST_DEVICES_MAX);
const lostByVolume = dictionary(volumeName, list(id, 0, LOST_DEVICES_MAX));
const without: Rule<NonNullable<OpenNodeOptions['without']>> = {
  expected: lostByVolume.expected,
  take: (value, name) => Object.fromEntries(lostByVolume.take(value, name)),
};

const address = fields<NodeAddress>({
  socket: optional(path),
  host: optional(text(1, HOST_BYTES_MAX)),
  port: optional(port),
});

export const OPEN_NODE = fields<OpenNodeOptions>({
  devices: list(path, 1, NODE_PATHS_MAX),
  strict: optional(boolean),
  skipUnformatted: optional(boolean),
  deviceWaitMs: optional(whole(0, DEVICE_WAIT_MS_MAX)),
  clusterId: optional(id),
  without: optional(without),
  shards: optional(whole(1, SHARDS_MAX)),
  keyFile: optional(path),
  peers: optional(list(address, 0, PEERS_MAX)),
  segments: optional(address),
  onEvent: optional(callback()),
  signal: optional(signal),
  faults: optional(faultRules),
});

/** Also of the control call. */
export const CREATE_VOLUME_FIELDS = {
  name: newVolumeName,
  sizeBytes,
  layout: optional(oneOf('single', 'mirror')),
  copies: optional(oneOf<number>(1, 2, 3)),
};
export const CREATE_VOLUME = fields<CreateVolumeOptions>(CREATE_VOLUME_FIELDS);
export const START_VOLUME = fields<{ readonly without: readonly string[] }>({ without: lostDevices });
export const SCRUB = optionsOf<{ readonly bytesPerSecond?: number }>({ bytesPerSecond: optional(sizeBytes) });
