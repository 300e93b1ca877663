/** A volume as its node knows it. */

import type { VolumeEngine } from '../client/volume-engine.js';
import type { StoredVolume } from '../store/pages.js';
import type { VolumeMember } from '../store/volume-member.js';

/** A volume of the node, started or not. */
export class NodeVolume {
  stored: StoredVolume;
  engine: VolumeEngine | null = null;
  members: VolumeMember[] = [];
  /** Its piece of memory, while it is started. */
  place = -1;
  /** Why it is not started. */
  reason = '';
  unproven = false;
  /** It has been started since the devices were opened, so their incarnations are the ones that the map knows. */
  started = false;
  /** It is being made: others hear of it when it is there. */
  coming = false;

  constructor(stored: StoredVolume) {
    this.stored = stored;
  }
}
