/**
 * Who decides about the maps of volumes and their groups: on one node the catalog on its devices, in a cluster its managers.
 *
 * A map is *decided* before any member hears of it, and is *in effect* when every member that it calls in-sync has stored it.
 * Nothing is acknowledged under a map that is not in effect.
 */

import type { Generation } from './ids.js';

/** How a volume is to be attached. */
export interface AttachRequest {
  readonly volumeId: string;
  /** The client that is to have the right to write: 32 hexadecimal digits. */
  readonly holder: string;
  /** Ids of the devices that whoever attaches can reach. What others hold is not judged, and they are absent. */
  readonly reachable: readonly string[];
  /** It was attached before by this process, whose devices have not been opened anew since. */
  readonly again: boolean;
  /** Whether a holder that still works is replaced. Of no meaning where nobody else could hold it. */
  readonly takeOver: boolean;
  /**
   * Whoever attaches has held the volume, and does so anew: only if no generation is newer than this one, whose client has given
   * it back, or has not served in time. Absent for whoever attaches for the first time.
   */
  readonly instead?: Generation;
  /** Whether the volume is attached because nobody attends to it. See `AttachCall.janitor`. */
  readonly janitor?: boolean;
}

/**
 * What has come of a change that was asked for:
 *
 * - `done`: `map` is in effect, which has it
 * - `passed`: `map` is in effect, which somebody else has decided meanwhile; what was asked for is to be asked anew
 * - `refused`: nothing was decided, and the map is as it was
 */
export type MapChange<VolumeMap> =
  | { readonly kind: 'done' | 'passed'; readonly map: VolumeMap }
  | { readonly kind: 'refused'; readonly error: Error };

export interface MapAuthority<VolumeMap> {
  /**
   * Gives the exclusive right to write: decides a map of the next generation, in which nobody is in-sync who may have missed
   * something, and resolves to it when it is in effect. Rejects with a `StrakeError` if it cannot be.
   */
  attach(request: AttachRequest): Promise<VolumeMap>;
  /**
   * Decides a changed map, and resolves when it is in effect, to that one: a manager gives versions of its own. Whoever has the
   * right to write asks for one change at a time. Rejects with a `StrakeError` if it could not be stored; then nobody knows
   * which map counts, or another client has the right to write. As long as nobody can be asked it waits, and is refused when it
   * is not `wanted` any more.
   */
  change(next: VolumeMap, wanted?: () => boolean): Promise<MapChange<VolumeMap>>;
  /**
   * Gives the right to write back in order: nothing is under way any more, and `map`, which says how far the members have come,
   * is the last of its holder. Rejects with a `StrakeError` if that could not be stored; then it is as if the holder had
   * died.
   */
  release(map: VolumeMap): Promise<void>;
  /** Calls `listener` with each map that takes effect, before whoever asked for it is answered. */
  onMap(listener: (map: VolumeMap) => void): void;
}
