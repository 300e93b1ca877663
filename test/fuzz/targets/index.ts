/** All that is fuzzed. */

import type { FuzzTarget } from '../target.js';
import { control } from './control.js';
import { image } from './image.js';
import { journal } from './journal.js';
import { maps } from './maps.js';
import { nbdHandshake } from './nbd-handshake.js';
import { nbdTransmission } from './nbd-transmission.js';
import { pages } from './pages.js';
import { ring } from './ring.js';
import { wireAnswers, wireCalls } from './wire-calls.js';
import { wireReplies } from './wire-replies.js';
import { wireRequests } from './wire-requests.js';

export const targets: readonly FuzzTarget[] = [
  journal,
  pages,
  image,
  maps,
  ring,
  nbdHandshake,
  nbdTransmission,
  wireRequests,
  wireReplies,
  wireCalls,
  wireAnswers,
  control,
];
