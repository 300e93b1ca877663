/**
 * Addresses of nodes and managers as text, in messages, in configurations and on command lines: the path of a unix socket, which
 * has a slash in it, or an IP address and a port: `/run/strake/manager.sock`, `127.0.0.1:7070`, `[::1]:7070`.
 */

import type { StreamAddress } from '../ports/transport.js';
import { StrakeError } from './errors.js';
import { PATH_BYTES_MAX } from './limits.js';

const WITH_PORT = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):([0-9]{1,5})$/i;
const IPV4 = /^(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}$/;

export function addressText(address: StreamAddress): string {
  if ('path' in address) return address.path;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** Throws `ERR_STRAKE_INVALID_ARGUMENT`. Names of hosts are not taken: what they mean may change. */
export function parseAddress(text: string): StreamAddress {
  const wrong = () =>
    new StrakeError('INVALID_ARGUMENT', `${JSON.stringify(text.slice(0, PATH_BYTES_MAX))} is no address`, {
      remedy: 'Give the path of a unix socket, with a slash in it, or an IP address and a port: 127.0.0.1:7070.',
    });
  if (text.includes('/') && !text.includes('\0')) return { path: text };
  const match = WITH_PORT.exec(text);
  if (match === null) throw wrong();
  const [, six, four, digits] = match;
  const port = Number(digits);
  if (port > 65535 || (four !== undefined && !IPV4.test(four)) || (six !== undefined && !six.includes(':'))) {
    throw wrong();
  }
  return { host: six ?? four, port };
}

/** Whether only processes of the same host reach it. */
export function isLocal(address: StreamAddress): boolean {
  return 'path' in address || address.host === '::1' || address.host.startsWith('127.');
}
