/** A cluster begins: its first record, in a store that has none. */

import { DEFAULT_TIMES } from '../core/cluster-times.js';
import { StrakeError } from '../core/errors.js';
import type { MetaStore } from '../ports/meta-store.js';
import { CLUSTER_KEY, type ClusterRecord, RECORDS_FORM } from './records.js';

/**
 * Makes a cluster durable that has no nodes yet. Rejects with `ERR_STRAKE_EXISTS` if the store has anything.
 *
 * @param clusterId 32 hexadecimal digits
 */
export async function foundCluster(store: MetaStore, { clusterId }: { readonly clusterId: string }): Promise<void> {
  const { sequence, records } = await store.load();
  if (sequence > 0 || records.length > 0) {
    throw new StrakeError('EXISTS', 'there is a cluster in this store of a manager already');
  }
  const cluster: ClusterRecord = { form: RECORDS_FORM, clusterId, epoch: 1, times: DEFAULT_TIMES };
  await store.commit({ expected: 0, next: 1, changes: [{ key: CLUSTER_KEY, value: JSON.stringify(cluster) }] });
}
