/** Faults that let assertions fire: those of managers, and of what nodes and clients hear from them. */

import { type AssertionMutant, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const JANITORS = tests('manager/janitors.test.ts');
const TIMES = tests('cluster/times.test.ts');

export const MANAGER_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'a manager tells times that cannot be',
    'volumes/managed-volumes.ts',
    'this.parts.times.hear(times);',
    'this.parts.times.hear({ ...times, pingMs: 0 });',
    TIMES,
  ),
  one(
    'a device is to grant leases that end before they begin',
    'node/gated-device.ts',
    "    check(leaseMs > 0, 'a device is to",
    "    leaseMs -= 1e6;\n    check(leaseMs > 0, 'a device is to",
    TIMES,
  ),
  one(
    'a checkpoint has not put a lease on record',
    'store/running/checkpoint.ts',
    '    await this.writeLease();\n',
    '    if (sequence < 0) await this.writeLease();\n',
    TIMES,
  ),
  one(
    'a device is there, and on no node',
    'manager/janitors.ts',
    'const nodeId = nodes.nodeOf(deviceId);',
    "const nodeId = nodes.nodeOf('');",
    JANITORS,
  ),
  one(
    'a janitor ends twice',
    'volumes/janitor.ts',
    '        await this.bringUp(volume);\n',
    '        await this.bringUp(volume);\n        this.tended.delete(volumeId);\n',
    tests('sim/janitor.test.ts'),
  ),
  one(
    'a janitor has attached another volume',
    'volumes/janitor.ts',
    'const volume = await this.parts.attach(volumeId);',
    "const volume = Object.assign(Object.create(await this.parts.attach(volumeId)), { id: '' });",
    tests('sim/janitor.test.ts'),
  ),
  one(
    'a volume is attached as if somebody used it',
    'volumes/managed-volumes.ts',
    '      volume.janitor = janitor;\n',
    '',
    tests('sim/janitor.test.ts'),
  ),
  one(
    'a device grants longer leases than it has on record',
    'node/gated-device.ts',
    'if (result < 0) return;\n      this.longestLeaseMs = leaseMs;\n',
    'if (result < 0) return;\n',
    TIMES,
  ),
  one(
    'a job begins in the place of one that goes on',
    'manager/job-book.ts',
    "if (state === 'syncing' && !this.known.has(jobKey(record)))",
    "if (state === 'syncing')",
    tests('manager/jobs.test.ts'),
  ),
];
