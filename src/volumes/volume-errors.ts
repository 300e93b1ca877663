/** Why volumes of a node are not served, where that is said in several places. */

import { StrakeError } from '../core/errors.js';

export function tooManyVolumes(most: number): StrakeError {
  return new StrakeError('BUSY', `a node serves at most ${most} volumes`, {
    remedy: 'Delete volumes that are not needed.',
  });
}

/** A device is to be given up that is a part of the node. */
export function deviceIsHere(deviceId: string, path: string): StrakeError {
  return new StrakeError('VOLUME_BUSY', `device ${deviceId} (${path}) is here, so nothing waits for its return`, {
    remedy: 'Forget only what is lost for good, and not a part of the node.',
  });
}
