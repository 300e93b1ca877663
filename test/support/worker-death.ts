/** A worker of this process is killed while it serves. */

import { subscribe } from 'node:diagnostics_channel';
import * as assert from 'uvu/assert';
import type { Device, StrakeEvent } from '#strake/index.js';
import { until } from './scratch.js';

export const events: StrakeEvent[] = [];
subscribe('strake:event', (message) => {
  events.push(message as StrakeEvent);
});

/** Kills the worker that drives a device, and waits until another has taken over. */
export async function killWorker(device: Device): Promise<void> {
  const before = events.length;
  await device.owner.kill(device.shard);
  await until('the event', () => events.length > before);
  assert.equal(
    events.slice(before).map(({ type }) => type),
    ['shard-replaced'],
  );
}
