/** Versions of the protocol between nodes, and which of them two ends speak. */

/** What each version has changed. Frames of the handshake have the form of version 1 for ever, and bear its number. */
export const VERSIONS: readonly (readonly [version: number, change: string])[] = [[1, 'the first']];

/** The lowest and the highest version that this program speaks. */
export const VERSION_LEAST = VERSIONS[0][0];
export const VERSION_MOST = VERSIONS[VERSIONS.length - 1][0];
/** Of frames of the handshake. */
export const VERSION_OF_HELLO = 1;

/** The highest version that both ends speak; null if there is none. */
export function commonVersion(least: number, most: number): number | null {
  const version = Math.min(most, VERSION_MOST);
  return version >= Math.max(least, VERSION_LEAST) ? version : null;
}
