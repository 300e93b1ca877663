/**
 * `npm start`: sets the checkout up, makes a device of one GiB in a file, and serves it over NBD until Ctrl-C. What was
 * written is there at the next start. STRAKE_DATA names another folder than `data` for it; arguments go to `strake export`.
 *
 * It ends by becoming `strake export`, in this process, so that signals reach the server directly.
 */

import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { root, setup } from './setup.mjs';

const SIZE_BYTES = 2 ** 30;

function makeDevice(path) {
  if (existsSync(path)) return;
  const file = openSync(path, 'wx', 0o600);
  ftruncateSync(file, SIZE_BYTES);
  closeSync(file);
}

/** A path that fits a socket's address, which holds 107 bytes; a checkout may lie deeper. */
function socketIn(folder) {
  const path = join(folder, 'strake.sock');
  return Buffer.byteLength(path) <= 107 ? path : join(tmpdir(), `strake-${process.getuid()}.sock`);
}

setup();
const folder = resolve(process.env.STRAKE_DATA ?? join(root, 'data'));
mkdirSync(folder, { recursive: true });
const device = join(folder, 'device.img');
makeDevice(device);
// The device is ours, so what a client has made of it since the first start is no reason to refuse it.
const args = ['export', device, '--confirm', device, '--socket', socketIn(folder), ...process.argv.slice(2)];
process.argv = [process.argv[0], join(root, 'dist', 'cli', 'main.js'), ...args];
await import('../dist/cli/main.js');
