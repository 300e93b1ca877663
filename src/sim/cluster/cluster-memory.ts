/** How much memory the processes of a cluster in a trial need; one trial after another can use the same. */

import { PART_SLACK_BYTES } from '../trial/trial-memory.js';
import { clusterNodeBytes } from './cluster-node.js';
import { CLIENTS_MAX, DEVICES_MAX, NODES_MAX, READERS_MAX } from './cluster-plan.js';
import { clusterProgramBytes } from './cluster-program.js';
import { managerProgramBytes } from './manager-program.js';

export const CLUSTER_MEMORY_BYTES =
  PART_SLACK_BYTES +
  managerProgramBytes() +
  NODES_MAX * clusterNodeBytes(DEVICES_MAX) +
  (CLIENTS_MAX + READERS_MAX) * clusterProgramBytes(0);
