/** What PONG has room for. */

import * as assert from 'uvu/assert';
import { SERVED_STORES_MAX } from '#strake/core/limits.js';
import { encodeControl } from '#strake/wire/control.js';
import { LISTED_MAX, PING_BYTES_MAX } from '#strake/wire/limits.js';
import { check, run } from '../support/check.js';

check('all devices that a node may serve fit beside all groups without a lease, with the longest numbers', () => {
  const device = {
    deviceId: 'd'.repeat(32),
    incarnation: 2 ** 32 - 1,
    depth: 65_535,
    segmentBytes: 1 << 20,
    freeBytes: Number.MAX_SAFE_INTEGER,
    health: 'read-only',
  } as const;
  const group = { volumeId: 'e'.repeat(32), group: 65_535 };
  const pong = {
    taken: Number.MAX_SAFE_INTEGER,
    devices: new Array<typeof device>(SERVED_STORES_MAX).fill(device),
    unleased: new Array<typeof group>(LISTED_MAX).fill(group),
  };
  const bytes = encodeControl('pong', pong).length;
  assert.ok(bytes <= PING_BYTES_MAX, `${bytes} bytes`);
});

run();
