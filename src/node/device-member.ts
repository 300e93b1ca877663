/** A member of a volume on a device of a node, until it is closed. */

import type { SegmentMember } from '../ports/segment-member.js';

export interface DeviceMember extends SegmentMember {
  /** Gives up what serves it; nothing may be in flight. */
  close(): void;
}
