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
import { StrakeError } from '../core/errors.js';

export const CONFIG_NAME = 'strake.json';
const CONFIG_BYTES_MAX = 1 << 20;
const SOCKET_PATH_MAX = 107;
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

type Check = (value: unknown, dir: string, key: string) => unknown;

function wrong(key: string, expected: string): StrakeError {
  return new StrakeError('INVALID_ARGUMENT', `${key} has to be ${expected}`, {
    remedy: 'Correct the configuration file.',
  });
}

const words: Check = (value, _dir, key) => {
  if (typeof value !== 'string' || value === '') throw wrong(key, 'text');
  return value;
};
const path: Check = (value, dir, key) => resolve(dir, words(value, dir, key) as string);
const list =
  (each: Check): Check =>
  (value, dir, key) => {
    if (!Array.isArray(value)) throw wrong(key, 'a list');
    return value.map((one, index) => each(one, dir, `${key}[${index}]`));
  };
const port: Check = (value, _dir, key) => {
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > 65535) {
    throw wrong(key, 'a whole number from 0 to 65535');
  }
  return value;
};
function entriesOf(value: unknown, key: string): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(key || 'it', 'an object');
  return Object.entries(value);
}

/** An object whose keys are chosen by the user: a map, as any text may be one of them. */
const dictionary =
  (each: Check): Check =>
  (value, dir, key) =>
    new Map(entriesOf(value, key).map(([name, part]) => [name, each(part, dir, `${key}.${name}`)]));
/** An object of known keys. */
const object =
  (keys: ReadonlyMap<string, Check>): Check =>
  (value, dir, key) => {
    const checked = entriesOf(value, key).map(([name, part]) => {
      const full = key === '' ? name : `${key}.${name}`;
      const check = keys.get(name);
      if (check === undefined) {
        throw new StrakeError('INVALID_ARGUMENT', `unknown key ${JSON.stringify(full)}`, {
          remedy: `Known keys are ${[...keys.keys()].join(', ')}.`,
        });
      }
      return [name, check(part, dir, full)];
    });
    return Object.fromEntries(checked);
  };
const LISTEN = object(
  new Map([
    ['socket', path],
    ['host', words],
    ['port', port],
  ]),
);
const listen: Check = (value, dir, key) => {
  const checked = LISTEN(value, dir, key) as Record<string, unknown>;
  if ((checked.socket !== undefined) === (checked.host !== undefined || checked.port !== undefined)) {
    throw wrong(key, 'either a socket, or a host and a port');
  }
  return checked;
};

const CONFIG = object(
  new Map([
    ['devices', list(path)],
    ['cluster', words],
    ['listen', listen],
    ['control', path],
    ['without', dictionary(list(words))],
  ]),
);

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
    return CONFIG(value, dir, '') as NodeConfig;
  } catch (error) {
    if (error instanceof StrakeError) throw fail(error.message, error.remedy);
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
