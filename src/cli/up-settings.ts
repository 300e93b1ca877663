/** What `strake up` runs with: options, then variables STRAKE_*, then the configuration file, then defaults. */

import { resolve } from 'node:path';
import { parseWhole } from '../core/arguments.js';
import { StrakeError } from '../core/errors.js';
import type { CreateVolumeOptions } from '../embed/node-types.js';
import { parseLayout, parseSize } from './describe.js';
import { controlSocket, type Listen, type NodePlace, placeOf, readConfig, socketIn } from './node-config.js';
import type { OutputFormat } from './output.js';

/** Options of `strake up` as they are given. */
export interface UpOptions {
  readonly device?: readonly string[];
  readonly cluster?: string;
  readonly socket?: string;
  readonly host?: string;
  readonly port?: number;
  readonly control?: string;
  /** Ids of devices by volume. */
  readonly without?: ReadonlyMap<string, readonly string[]>;
  readonly create?: readonly CreateVolumeOptions[];
  readonly connections: number;
  readonly deviceWait?: number;
  readonly shards?: number;
  readonly tableMemory?: number;
  readonly drain: number;
  readonly quiet?: boolean;
  readonly output: OutputFormat;
}

/** What results. */
export interface UpSettings {
  readonly place: NodePlace;
  /** Absolute paths and patterns; absent to take what the folder holds. */
  readonly devices: readonly string[] | undefined;
  readonly cluster: string | undefined;
  readonly listen: Listen;
  readonly control: string;
  readonly without: ReadonlyMap<string, readonly string[]>;
}

const DEFAULT_PORT = 10809;

function environment(name: `STRAKE_${string}`): string | undefined {
  return process.env[name] || undefined;
}

function environmentPort(): number | undefined {
  const text = environment('STRAKE_PORT');
  if (text === undefined) return undefined;
  const port = parseWhole(text, 0, 65535);
  if (port === undefined) {
    throw new StrakeError('INVALID_ARGUMENT', `STRAKE_PORT is ${JSON.stringify(text)}, which is no port`);
  }
  return port;
}

/** An address if any part of one is given: one source decides on all of it. */
function listenOf(socket?: string, host?: string, port?: number): Listen | undefined {
  if (host !== undefined || port !== undefined) {
    if (socket !== undefined) {
      throw new StrakeError('INVALID_ARGUMENT', 'a node listens either on a socket or on a port: give one of them');
    }
    return { host: host ?? '127.0.0.1', port: port ?? DEFAULT_PORT };
  }
  return socket === undefined ? undefined : { socket: resolve(socket) };
}

/** Puts the sources together. Throws `ERR_STRAKE_INVALID_ARGUMENT` or `ERR_STRAKE_NOT_FOUND`. */
export function settingsOf(dir: string | undefined, options: UpOptions): UpSettings {
  const place = placeOf(dir ?? environment('STRAKE_NODE') ?? '.');
  const config = readConfig(place);
  const { listen } = config;
  const fromFile = listen === undefined || 'socket' in listen ? listen : listenOf(undefined, listen.host, listen.port);
  return {
    place,
    devices: options.device?.map((path) => resolve(path)) ?? config.devices,
    cluster: (options.cluster ?? environment('STRAKE_CLUSTER') ?? config.cluster)?.toLowerCase(),
    listen: listenOf(options.socket, options.host, options.port) ??
      listenOf(environment('STRAKE_SOCKET'), environment('STRAKE_HOST'), environmentPort()) ??
      fromFile ?? { socket: socketIn(place.dir, 'strake.sock') },
    control: options.control === undefined ? controlSocket(place, config) : resolve(options.control),
    without: new Map([...(config.without ?? []), ...(options.without ?? [])]),
  };
}

/** `NAME=SIZE[,LAYOUT]` of `--create`. */
export function parseCreate(text: string): CreateVolumeOptions {
  const match = /^([^=]+)=([^,]+)(?:,(.+))?$/.exec(text);
  if (match === null) {
    throw new StrakeError('INVALID_ARGUMENT', `not a volume: ${JSON.stringify(text)}`, {
      remedy: 'Write NAME=SIZE or NAME=SIZE,LAYOUT, such as main=1G,mirror:2.',
    });
  }
  const [, name, size, layout] = match;
  return { name, sizeBytes: parseSize(size), ...(layout === undefined ? {} : parseLayout(layout)) };
}

/** `VOLUME=ID[,ID]` of `--without`, added to what was given before. */
export function parseWithout(
  text: string,
  before: ReadonlyMap<string, readonly string[]> = new Map(),
): ReadonlyMap<string, readonly string[]> {
  const match = /^([^=]+)=(.+)$/.exec(text);
  if (match === null) {
    throw new StrakeError('INVALID_ARGUMENT', `not a volume and its missing devices: ${JSON.stringify(text)}`, {
      remedy: 'Write VOLUME=ID or VOLUME=ID,ID with the ids that `strake volume show` prints.',
    });
  }
  const [, volume, ids] = match;
  const given = [...(before.get(volume) ?? []), ...ids.split(',').filter((id) => id !== '')];
  return new Map([...before, [volume, given]]);
}
