/** Faults that let assertions fire: those of managers, and of what nodes and clients hear from them. */

import { type AssertionMutant, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

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
];
