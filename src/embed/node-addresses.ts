/** Addresses of nodes and managers as a program gives them. */

import { isIP } from 'node:net';
import { fields, optional, path, port, text } from '../core/arguments.js';
import { StrakeError } from '../core/errors.js';
import { isLocal, parseAddress } from '../core/stream-address.js';
import type { StreamAddress } from '../ports/transport.js';
import { HOST_BYTES_MAX } from './limits.js';
import type { NodeAddress } from './node-types.js';

export const NODE_ADDRESS = fields<NodeAddress>({
  socket: optional(path),
  host: optional(text(1, HOST_BYTES_MAX)),
  port: optional(port),
});

/** What a program gives for an address as text. */
export function nodeAddress(given: string): NodeAddress {
  const address = parseAddress(given);
  return 'path' in address ? { socket: address.path } : address;
}

/**
 * Where a node or a manager is reached. Throws `ERR_STRAKE_INVALID_ARGUMENT` for what is no address, and `ERR_STRAKE_ADDRESS`
 * for one that can be reached from elsewhere, unless that is meant.
 */
export function clusterAddress({ socket, host, port }: NodeAddress, insecureNetwork: boolean): StreamAddress {
  const tcp = port !== undefined || host !== undefined;
  if ((socket !== undefined) === tcp || (tcp && port === undefined)) {
    throw new StrakeError('INVALID_ARGUMENT', 'an address is either a socket or a port: give one of them');
  }
  if (socket !== undefined) return { path: socket };
  const address = { host: host === undefined || host === 'localhost' ? '127.0.0.1' : host, port: port ?? 0 };
  if (isIP(address.host) === 0) {
    throw new StrakeError('INVALID_ARGUMENT', `not an IP address: ${JSON.stringify(address.host)}`);
  }
  if (!isLocal(address) && !insecureNetwork) {
    throw new StrakeError('ADDRESS', `${address.host} is reached over a network, and nothing is encrypted there`, {
      remedy:
        'Nodes prove that they have the key of the cluster, but whoever can read or change packets on that network can read and change data. If only trusted machines are on it, say so with --insecure-network (insecureNetwork: true).',
    });
  }
  return address;
}
