/**
 * How much of everything the ends of sessions have in a simulation: far less than in production, so that they run out of it, and
 * with the same kinds of buffers.
 */

import { SESSION_SIZES } from '../../client/members/session-service.js';
import type { NetSizes } from '../../net/connection-resources.js';
import { SEGMENT_SIZES } from '../../node/segment-service.js';

/** At the end that asks. */
export const SIM_SESSIONS: NetSizes = {
  ...SESSION_SIZES,
  connections: 4,
  classes: [
    { bytes: 4 << 10, count: 16 },
    { bytes: 16 << 10, count: 4 },
  ],
};

/** At the end that answers. A request takes a buffer of the smallest class that holds it, or of a larger one. */
export const SIM_SEGMENTS: NetSizes = {
  ...SEGMENT_SIZES,
  // Five clients, with two each.
  connections: 12,
  classes: [
    { bytes: 4 << 10, count: 16 },
    { bytes: 16 << 10, count: 4 },
    { bytes: 36 << 10, count: 4 },
    { bytes: 128 << 10, count: 4 },
    { bytes: 1 << 20, count: 2 },
  ],
};

/** What stands for the secret of a cluster. */
export const SIM_KEY_SEED = 7;
