/** All mutants. */

import { ACROSS_MUTANTS } from './across-mutants.js';
import { ATTACH_MUTANTS } from './attach-mutants.js';
import { CALL_MUTANTS } from './call-mutants.js';
import { CLUSTER_MUTANTS } from './cluster-mutants.js';
import { CONDITION_MUTANTS } from './condition-mutants.js';
import { COPYING_MUTANTS } from './copying-mutants.js';
import { DELETION_MUTANTS } from './deletion-mutants.js';
import { DIRECTORY_MUTANTS } from './directory-mutants.js';
import { ENGINE_MUTANTS } from './engine-mutants.js';
import { JANITOR_MUTANTS } from './janitor-mutants.js';
import { JOB_MUTANTS } from './job-mutants.js';
import { LEASE_MUTANTS } from './lease-mutants.js';
import { MANAGER_MUTANTS } from './manager-mutants.js';
import { MEMBER_MUTANTS } from './member-mutants.js';
import { MIGRATION_MUTANTS } from './migration-mutants.js';
import type { Mutant } from './mutant.js';
import { NBD_MUTANTS } from './nbd-mutants.js';
import { READER_MUTANTS } from './reader-mutants.js';
import { SEQUENCE_MUTANTS } from './sequence-mutants.js';
import { SESSION_MUTANTS } from './session-mutants.js';
import { SETTLED_MUTANTS } from './settled-mutants.js';
import { STORE_MUTANTS } from './store-mutants.js';
import { VOLUME_MUTANTS } from './volume-mutants.js';
import { WIRE_MUTANTS } from './wire-mutants.js';

export const MUTANTS: readonly Mutant[] = [
  ...STORE_MUTANTS,
  ...CONDITION_MUTANTS,
  ...VOLUME_MUTANTS,
  ...COPYING_MUTANTS,
  ...SETTLED_MUTANTS,
  ...NBD_MUTANTS,
  ...WIRE_MUTANTS,
  ...SESSION_MUTANTS,
  ...CALL_MUTANTS,
  ...JANITOR_MUTANTS,
  ...JOB_MUTANTS,
  ...LEASE_MUTANTS,
  ...READER_MUTANTS,
  ...CLUSTER_MUTANTS,
  ...MANAGER_MUTANTS,
  ...MEMBER_MUTANTS,
  ...ACROSS_MUTANTS,
  ...DELETION_MUTANTS,
  ...MIGRATION_MUTANTS,
  ...DIRECTORY_MUTANTS,
  ...ENGINE_MUTANTS,
  ...SEQUENCE_MUTANTS,
  ...ATTACH_MUTANTS,
];
