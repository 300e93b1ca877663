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
  type Rule,
  signal,
  sizeBytes,
  text,
  volumeName,
  whole,
  wrongArgument,
} from '../core/arguments.js';
import { DEVICE_WAIT_MS_MAX, LOST_DEVICES_MAX, NODE_PATHS_MAX } from '../core/limits.js';
import {
  LABEL_TEXT_BYTES_MAX,
  LABELS_MAX,
  MANAGERS_MAX,
  PEERS_MAX,
  SHARDS_MAX,
  TABLE_MEMORY_MAX,
  TABLE_MEMORY_MIN,
} from './limits.js';
import { NODE_ADDRESS } from './node-addresses.js';
import type { CreateVolumeOptions, OpenNodeOptions } from './node-types.js';
import { faultRules } from './rules.js';

const lostDevices = list(id, 1, LOST_DEVICES_MAX);
const lostByVolume = dictionary(volumeName, list(id, 0, LOST_DEVICES_MAX));
const without: Rule<NonNullable<OpenNodeOptions['without']>> = {
  expected: lostByVolume.expected,
  take: (value, name) => Object.fromEntries(lostByVolume.take(value, name)),
};

/** Failure domains of a node. */
const labelRule = dictionary(text(1, LABEL_TEXT_BYTES_MAX), text(1, LABEL_TEXT_BYTES_MAX));
const labels: Rule<NonNullable<OpenNodeOptions['labels']>> = {
  expected: labelRule.expected,
  take: (value, name) => {
    const taken = labelRule.take(value, name);
    if (taken.size > LABELS_MAX) throw wrongArgument(name, `an object with at most ${LABELS_MAX} labels`, value);
    return Object.fromEntries(taken);
  },
};

export const OPEN_NODE = fields<OpenNodeOptions>({
  devices: list(path, 1, NODE_PATHS_MAX),
  strict: optional(boolean),
  skipUnformatted: optional(boolean),
  deviceWaitMs: optional(whole(0, DEVICE_WAIT_MS_MAX)),
  clusterId: optional(id),
  without: optional(without),
  shards: optional(whole(1, SHARDS_MAX)),
  tableMemory: optional(whole(TABLE_MEMORY_MIN, TABLE_MEMORY_MAX)),
  keyFile: optional(path),
  peers: optional(list(NODE_ADDRESS, 0, PEERS_MAX)),
  segments: optional(NODE_ADDRESS),
  manager: optional(list(NODE_ADDRESS, 1, MANAGERS_MAX)),
  nodeId: optional(id),
  name: optional(newVolumeName),
  labels: optional(labels),
  insecureNetwork: optional(boolean),
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
