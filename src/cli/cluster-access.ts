/** Options by which commands reach a cluster, and how they do. */

import type { Command } from 'commander';
import { StrakeError } from '../core/errors.js';
import type { Cluster } from '../embed/cluster.js';
import { nodeAddress } from '../embed/node-addresses.js';
import type { NodeAddress } from '../embed/node-types.js';
import { asUsageError } from './options.js';

/** What the options give. */
export interface ClusterAccess {
  readonly manager?: readonly NodeAddress[];
  readonly keyFile?: string;
  readonly insecureNetwork?: boolean;
}

/** Where managers are, and the key. */
export interface ClusterReach {
  readonly manager: readonly NodeAddress[];
  readonly keyFile: string;
  readonly insecureNetwork: boolean;
}

const parse = asUsageError(nodeAddress);

/** `--manager ADDR --key-file FILE --insecure-network`. */
export function addClusterOptions(command: Command): Command {
  return command
    .option(
      '--manager <address>',
      'a manager of the cluster: the path of its socket, or IP:PORT; may be given several times (STRAKE_MANAGER)',
      (text: string, before: readonly NodeAddress[] = []) => [...before, parse(text)],
    )
    .option('--key-file <path>', 'the file with the key of the cluster (STRAKE_KEY_FILE)')
    .option(
      '--insecure-network',
      'use addresses that other hosts reach: what is said there is proven, but neither encrypted nor hidden',
    );
}

/** Whether a command is about a cluster, and not about a node that runs here. */
export function meansCluster({ manager }: ClusterAccess): boolean {
  return manager !== undefined || (process.env.STRAKE_MANAGER ?? '') !== '';
}

/** Options, then variables STRAKE_*. Throws `ERR_STRAKE_INVALID_ARGUMENT`. */
export function clusterReach({ manager, keyFile, insecureNetwork = false }: ClusterAccess): ClusterReach {
  const environment = (process.env.STRAKE_MANAGER ?? '').split(',').filter((text) => text !== '');
  const managers = manager ?? environment.map((text) => nodeAddress(text));
  const file = keyFile ?? (process.env.STRAKE_KEY_FILE || undefined);
  if (managers.length === 0) {
    throw new StrakeError('INVALID_ARGUMENT', 'no manager of a cluster is named', {
      remedy: 'Give --manager ADDRESS, or set STRAKE_MANAGER.',
    });
  }
  if (file === undefined) {
    throw new StrakeError('INVALID_ARGUMENT', 'the file with the key of the cluster is not named', {
      remedy: 'Give --key-file FILE, or set STRAKE_KEY_FILE.',
    });
  }
  return { manager: managers, keyFile: file, insecureNetwork };
}

/** Does something with a cluster, and parts with it. */
export async function withCluster<T>(access: ClusterAccess, work: (cluster: Cluster) => Promise<T>): Promise<T> {
  const reach = clusterReach(access);
  const { connect } = await import('../embed/cluster.js');
  const cluster = await connect(reach);
  try {
    return await work(cluster);
  } finally {
    await cluster.close();
  }
}
