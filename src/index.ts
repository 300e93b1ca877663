/**
 * Strake: a storage-node runtime that drives raw block devices.
 *
 * Importing this starts nothing and works on every platform; the first use on one that is not supported throws
 * `ERR_STRAKE_UNSUPPORTED_PLATFORM`.
 */

export { type ErrorCode, type ErrorName, StrakeError } from './core/errors.js';
export { Device, type OpenDeviceOptions, openDevice, type ReadOptions, type WriteOptions } from './embed/device.js';
export type { StrakeEvent } from './embed/events.js';
export { type DeviceFacts, inspectDevice } from './embed/facts.js';
export { type CloseServerOptions, NbdServerHandle, type ServeNbdOptions, serveNbd } from './embed/nbd-server.js';
export { type Support, support } from './embed/support.js';
export type { ShardStats } from './worker/shard-stats.js';
