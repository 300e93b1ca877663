/** All kinds of cycles. */

import type { CycleKind } from '../cycle.js';
import { detach } from './detach.js';
import { errors, failedFlush, lostWrite, lyingFlush, rot, slow, stuck, vanish } from './evil.js';
import { inRecovery, inReplace, inResync, inScrub, underLoad } from './failpoint.js';
import { kill, worker } from './kill.js';
import { pause } from './pause.js';
import { all, one } from './power-cut.js';
import { throttle } from './throttle.js';

export const KINDS: readonly CycleKind[] = [
  kill,
  worker,
  underLoad,
  inRecovery,
  inScrub,
  inResync,
  inReplace,
  all,
  one,
  errors,
  failedFlush,
  lyingFlush,
  slow,
  stuck,
  vanish,
  lostWrite,
  rot,
  pause,
  throttle,
  detach,
];
