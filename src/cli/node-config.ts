/**
 * Where a node is, and how it is configured: its folder, and `strake.json` there.
 *
 * Paths in the file are relative to the folder. A key that is not known is an error, as it would otherwise be a setting
 * that silently does nothing.
 */

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { SOCKET_PATH_MAX } from '../control/limits.js';
import {
  dictionary,
  fields,
  id,
  list,
  optional,
  path,
  port,
  text,
  volumeName,
  wrongArgument,
} from '../core/arguments.js';
import { StrakeError } from '../core/errors.js';
import { LOST_DEVICES_MAX } from '../core/limits.js';
import { HOST_BYTES_MAX } from '../embed/limits.js';
import { CLUSTER_BYTES_MAX, CONFIG_BYTES_MAX, CONFIG_DEVICES_MAX } from './limits.js';

export const CONFIG_NAME = 'strake.json';
/** Folders in which commands look for a running node. */
const USUAL_FOLDERS = ['data', '.'];

/** A node's folder, and its configuration file if there is one. Absolute paths. */
export interface NodePlace {
  readonly dir: string;
  readonly configFile: string | undefined;
}

/** Where volumes are served. */
export type Listen = { readonly socket: string } | { readonly host?: string; readonly port?: number };

/** What `strake.json` says; paths are absolute. */
export interface NodeConfig {
  /** Paths, or patterns with `*` and `?` in their last part. */
  readonly devices?: readonly string[];
  readonly cluster?: string;
  readonly listen?: Listen;
  readonly control?: string;
  /** Ids of devices by volume. */
  readonly without?: ReadonlyMap<string, readonly string[]>;
}

/** What `strake.json` says, as it stands there. */
interface ConfigFile extends Omit<NodeConfig, 'listen'> {
  readonly listen?: { readonly socket?: string; readonly host?: string; readonly port?: number };
}

/** The place that a path names: a folder, or a configuration file. Throws `ERR_STRAKE_NOT_FOUND`. */
export function placeOf(path: string): NodePlace {
  const full = resolve(path);
  const found = statSync(full, { throwIfNoEntry: false });
  if (found === undefined) {
    throw new StrakeError('NOT_FOUND', `there is no folder or configuration file ${path}`, {
      remedy: `A node lives in a folder: make it, and format a device or a file in it (strake device format ${path}/...).`,
    });
  }
  if (!found.isDirectory()) return { dir: dirname(full), configFile: full };
  const configFile = join(full, CONFIG_NAME);
  return { dir: full, configFile: existsSync(configFile) ? configFile : undefined };
}

/** Where a socket of a node lies by default: in its folder, or elsewhere if that path is too long for a socket. */
export function socketIn(dir: string, name: string): string {
  const path = join(dir, name);
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX) return path;
  const digest = createHash('sha256').update(dir).digest('hex').slice(0, 12);
  return join(process.env.XDG_RUNTIME_DIR || tmpdir(), `strake-${digest}-${name}`);
}

/** The control socket of a node. */
export function controlSocket(place: NodePlace, config: NodeConfig): string {
  return process.env.STRAKE_CONTROL || config.control || socketIn(place.dir, 'control.sock');
}

/**
 * The control socket that a command talks to: that of the node in `option`, else in STRAKE_NODE, else in `data` or here,
 * whichever has one. Throws `ERR_STRAKE_NO_NODE`.
 */
export function findControl(option: string | undefined): string {
  const named = option ?? (process.env.STRAKE_NODE || undefined);
  const folders = named === undefined ? USUAL_FOLDERS.filter((folder) => existsSync(folder)) : [named];
  const sockets = folders.map((folder) => {
    const place = placeOf(folder);
    return controlSocket(place, readConfig(place));
  });
  const there = sockets.find((socket) => existsSync(socket));
  if (there !== undefined) return there;
  throw new StrakeError('NO_NODE', `no node runs in ${folders.join(' or in ') || USUAL_FOLDERS.join(' or in ')}`);
}

const FILE = fields<ConfigFile>({
  devices: optional(list(path, 0, CONFIG_DEVICES_MAX)),
  cluster: optional(text(1, CLUSTER_BYTES_MAX)),
  listen: optional(
    fields<NonNullable<ConfigFile['listen']>>({
      socket: optional(path),
      host: optional(text(1, HOST_BYTES_MAX)),
      port: optional(port),
    }),
  ),
  control: optional(path),
  without: optional(dictionary(volumeName, list(id, 0, LOST_DEVICES_MAX))),
});

function checked(value: unknown, dir: string): NodeConfig {
  const { devices, listen, control, ...rest } = FILE.take(value, '');
  const { socket, ...tcp } = listen ?? {};
  if (listen !== undefined && (socket === undefined) === (Object.keys(tcp).length === 0)) {
    throw wrongArgument('listen', 'either a socket, or a host and a port', listen);
  }
  return {
    ...rest,
    ...(devices === undefined ? {} : { devices: devices.map((one) => resolve(dir, one)) }),
    ...(control === undefined ? {} : { control: resolve(dir, control) }),
    ...(listen === undefined ? {} : { listen: socket === undefined ? tcp : { socket: resolve(dir, socket) } }),
  };
}

/** What an error says to do beyond what any wrong argument does. */
function ownRemedy({ remedy, entry }: StrakeError): string | undefined {
  return remedy === entry.remedy ? undefined : remedy;
}

/** The configuration of a node; empty without a file. Throws `ERR_STRAKE_INVALID_ARGUMENT`, naming file and key. */
export function readConfig({ dir, configFile }: NodePlace): NodeConfig {
  if (configFile === undefined) return {};
  const fail = (why: string, remedy?: string) =>
    new StrakeError('INVALID_ARGUMENT', `${configFile}: ${why}`, {
      remedy: remedy ?? 'Correct the configuration file.',
    });
  if (statSync(configFile).size > CONFIG_BYTES_MAX) throw fail('it is too large for a configuration file');
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(configFile, 'utf8'));
  } catch (error) {
    throw fail(`it cannot be read as JSON: ${(error as Error).message}`);
  }
  try {
    return checked(value, dir);
  } catch (error) {
    if (error instanceof StrakeError) throw fail(error.message, ownRemedy(error));
    throw error;
  }
}

/** A pattern of one name: `*` for any characters, `?` for one. */
function matcher(pattern: string): RegExp {
  const parts = [...pattern].map((part) => (part === '*' ? '.*' : part === '?' ? '.' : part.replace(/\W/g, '\\$&')));
  return new RegExp(`^${parts.join('')}$`, 's');
}

/** The paths that a device's entry stands for: itself, or what its pattern matches now. */
export function expand(entry: string): string[] {
  const [folder, name] = [dirname(entry), basename(entry)];
  if (/[*?]/.test(folder)) {
    throw new StrakeError('INVALID_ARGUMENT', `${entry}: only the last part of a path may hold * and ?`);
  }
  if (!/[*?]/.test(name) || existsSync(entry)) return [entry];
  const match = matcher(name);
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return names
    .filter((one) => match.test(one) && !one.startsWith('.'))
    .sort()
    .map((one) => join(folder, one));
}
