/** The shards of the test's own process: as long as a device is open they run, and starting them takes longer than most tests. */

import { type Device, openDevice } from '#strake/index.js';
import { atEnd } from './scratch.js';

let anchor: Promise<Device> | undefined;

/** Keeps them running between devices, until the tests of the file have ended. */
export function keepShards(): Promise<Device> {
  if (anchor === undefined) {
    anchor = openDevice('null:4096');
    atEnd(() => void letShardsGo());
  }
  return anchor;
}

/** Lets them end with their last device, and with them what was injected there. */
export async function letShardsGo(): Promise<void> {
  const device = anchor;
  anchor = undefined;
  await (await device)?.close();
}
