/** Placement groups as lists of devices: what holds for them wherever a map comes from. */

/** In place of a device's id: a place in a group that no device has. */
export const NO_DEVICE = '0'.repeat(32);

/**
 * A device that a group names twice; null if there is none. Two copies on one device are one copy. A device may be a member
 * of several groups.
 */
export function doubledDevice(groups: readonly (readonly { readonly deviceId: string }[])[]): string | null {
  for (const group of groups) {
    const ids = group.map(({ deviceId }) => deviceId).filter((deviceId) => deviceId !== NO_DEVICE);
    const doubled = ids.find((deviceId, at) => ids.indexOf(deviceId) !== at);
    if (doubled !== undefined) return doubled;
  }
  return null;
}
