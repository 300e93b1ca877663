/** Why a node does not do what it was asked for, where that is said in several places. */

import { StrakeError } from '../core/errors.js';

export function tooManyDevices(storesMax: number): StrakeError {
  return new StrakeError('BUSY', `this node drives at most ${storesMax} devices`, {
    remedy: 'Take one out of the node first: one that is not used, or that has failed.',
  });
}

export function closedError(): StrakeError {
  return new StrakeError('CLOSED', 'the node is being closed');
}
