/**
 * Strake: a storage-node runtime that drives raw block devices.
 *
 * Importing this starts nothing and works on every platform; the first use on one that is not supported throws
 * `ERR_STRAKE_UNSUPPORTED_PLATFORM`.
 */

export { type ErrorCode, type ErrorName, StrakeError } from './core/errors.js';
export type { ReadOptions, WriteOptions } from './embed/block-io.js';
export {
  Cluster,
  type ConnectOptions,
  type CreateClusterVolumeOptions,
  connect,
  type OpenVolumeOptions,
} from './embed/cluster.js';
export { Device, type OpenDeviceOptions, openDevice } from './embed/device.js';
export type { StrakeEvent } from './embed/events.js';
export { type DeviceFacts, inspectDevice } from './embed/facts.js';
export { describeDevice, formatDevice } from './embed/format.js';
export {
  ClusterManager,
  type InitClusterOptions,
  initCluster,
  type OpenManagerOptions,
  openManager,
} from './embed/manager.js';
export { type CloseServerOptions, NbdServerHandle, type ServeNbdOptions, serveNbd } from './embed/nbd-server.js';
export { Node, openNode } from './embed/node.js';
export { NodeServer } from './embed/node-server.js';
export type {
  CreateVolumeOptions,
  DeviceDescription,
  FormatDeviceOptions,
  NodeCheck,
  NodeDevice,
  NodeEvent,
  NodeJob,
  NodeStatus,
  NodeVolumeStatus,
  OpenNodeOptions,
  RemoteDeviceStatus,
} from './embed/node-types.js';
export { NodeVolume } from './embed/node-volume.js';
export { type Support, support } from './embed/support.js';
export type { ShardStats } from './worker/shard-stats.js';
