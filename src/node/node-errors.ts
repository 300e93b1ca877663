/** Why a node does not do what it was asked for, where that is said in several places. */

import { StrakeError } from '../core/errors.js';
import { NODE_VOLUMES_MAX } from '../core/limits.js';

export function tooManyVolumes(): StrakeError {
  return new StrakeError('BUSY', `a node serves at most ${NODE_VOLUMES_MAX} volumes`, {
    remedy: 'Delete volumes that are not needed.',
  });
}

export function tooManyDevices(storesMax: number): StrakeError {
  return new StrakeError('BUSY', `this node drives at most ${storesMax} devices`, {
    remedy: 'Take one out of the node first: one that is not used, or that has failed.',
  });
}

export function closedError(): StrakeError {
  return new StrakeError('CLOSED', 'the node is being closed');
}

/** A device is to be given up that is a part of the node. */
export function deviceIsHere(deviceId: string, path: string): StrakeError {
  return new StrakeError('VOLUME_BUSY', `device ${deviceId} (${path}) is here, so nothing waits for its return`, {
    remedy: 'Forget only what is lost for good, and not a part of the node.',
  });
}
