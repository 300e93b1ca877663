/**
 * `npm start`: sets the checkout up, makes a cluster in files under `data`: four nodes, a manager, and a volume `main` with two
 * copies; and serves that over NBD until Ctrl-C. What was written is there at the next start. Where devices of a single node
 * lie, as earlier versions made them, that node goes on as it is. STRAKE_DATA names another folder than `data`; arguments go to
 * `strake up`, such as `--processes`.
 *
 * Only what is missing is made, and nothing that exists is formatted anew. It ends by becoming `strake up`, in this process,
 * so that signals reach it directly: npm passes SIGINT and SIGTERM on to what its shell has become by `exec`. Whatever else ends
 * npm, it is noticed, and everything stops as well.
 */

import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { root, setup } from './setup.mjs';

const NODES = 4;
/** Devices of a single node. */
const DEVICES = 4;
const SIZE_BYTES = 512 * 2 ** 20;
const VOLUME = 'main=1G,mirror:2';

/** Makes a sparse file unless it exists. */
function makeFile(path) {
  if (existsSync(path)) return;
  const file = openSync(path, 'wx', 0o600);
  ftruncateSync(file, SIZE_BYTES);
  closeSync(file);
}

/** What the superblock of a device says, or undefined if it has none. */
async function describe(path) {
  const { describeDevice } = await import('../dist/embed/format.js');
  try {
    return await describeDevice(path);
  } catch (error) {
    if (error.code === 'ERR_STRAKE_NOT_FORMATTED') return undefined;
    throw error;
  }
}

function devicePaths(folder) {
  return Array.from({ length: DEVICES }, (_, index) => join(folder, `device${index}.img`));
}

/** Whether a single node lives in a folder, or began to. */
function holdsNode(folder) {
  return [...devicePaths(folder), join(folder, 'strake.json')].some((path) => existsSync(path));
}

/** Makes the devices of a single node that are missing, all of one cluster. */
async function makeDevices(folder) {
  const { formatDevice } = await import('../dist/embed/format.js');
  const paths = devicePaths(folder);
  paths.forEach(makeFile);
  const found = await Promise.all(paths.map(describe));
  let clusterId = found.find((device) => device !== undefined)?.clusterId;
  for (const [index, path] of paths.entries()) {
    if (found[index] !== undefined) continue;
    const options = { label: `device${index}`, ...(clusterId === undefined ? {} : { clusterId }) };
    ({ clusterId } = await formatDevice(path, options));
  }
}

const NPM_LOOK_MS = 1_000;

/** Stops everything when npm is gone, which nobody told of that: devices would stay taken. */
function endWithNpm() {
  const npm = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === npm) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, NPM_LOOK_MS);
  timer.unref();
}

setup();
if (process.env.npm_lifecycle_event === 'start') endWithNpm();
const folder = resolve(process.env.STRAKE_DATA ?? join(root, 'data'));
mkdirSync(folder, { recursive: true });
let ready = true;
const single = holdsNode(folder);
try {
  if (single) await makeDevices(folder);
} catch (error) {
  ready = false;
  const { printError } = await import('../dist/cli/output.js');
  process.exitCode = printError(error, 'table');
}
if (ready) {
  const kind = single ? [] : ['--nodes', String(NODES)];
  const args = ['up', folder, ...kind, '--create', VOLUME, ...process.argv.slice(2)];
  process.argv = [process.argv[0], join(root, 'dist', 'cli', 'main.js'), ...args];
  await import('../dist/cli/main.js');
}
