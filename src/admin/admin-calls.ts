/** What of a manager the admin API uses: what operators ask for. Maps are decided and attached by nodes and clients alone. */

import type { ReplicaMap } from '../layout/replica-map.js';
import type { ManagerCalls } from '../ports/manager.js';

export type AdminCalls = Pick<
  ManagerCalls<ReplicaMap>,
  | 'status'
  | 'setTimes'
  | 'nodes'
  | 'devices'
  | 'volumes'
  | 'events'
  | 'create'
  | 'delete'
  | 'rename'
  | 'grow'
  | 'startWithout'
>;
