/** What signals, closed terminals and readers that leave do to commands that hold devices: none of it is a crash. */

import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run, tool } from '../support/check.js';
import { ask, type Json, made } from '../support/node-commands.js';
import { ending, project, scratchFile, scratchFolder, startProcess, until } from '../support/scratch.js';
import { command, exportDevice } from '../support/strake.js';
import { nodeFolder, type UpProcess, up } from '../support/up.js';

const SOCKETS = ['control.sock', 'strake.sock'];
const STOPPED = 'everything acknowledged is on the device';

function socketsIn(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.endsWith('.sock'));
}

/** Whether a process runs; one that has ended and not been waited for does not. */
function runs(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** Its devices are closed in order. */
async function closedInOrder(device: string): Promise<void> {
  const { superblock } = await ask(['device', 'show', device]);
  assert.is((superblock as Json).clean, true);
}

check('whatever signal asks a node to end, it stops in order', async () => {
  const { folder, devices } = await made(1);
  for (const signal of ['SIGHUP', 'SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGXCPU'] as const) {
    const node = await up([folder, '--create', 'main=4M']);
    assert.equal(socketsIn(folder), SOCKETS);
    node.child.kill(signal);
    const { code, stderr } = await node.ended;
    assert.is(code, 0, `${signal}: ${stderr}`);
    assert.match(stderr, STOPPED);
    assert.equal(socketsIn(folder), [], signal);
    await closedInOrder(devices[0]);
  }
});

check('so does an export', async () => {
  for (const signal of ['SIGHUP', 'SIGQUIT'] as const) {
    const server = await exportDevice('null:1M');
    server.child.kill(signal);
    const { code, stderr } = await server.ended;
    assert.is(code, 0, `${signal}: ${stderr}`);
    assert.not(existsSync(server.socket));
  }
});

check('other signals do nothing, and open no port for debuggers', async () => {
  const { folder } = await made(1);
  const node = await up([folder]);
  let told = '';
  node.child.stderr?.on('data', (text: string) => {
    told += text;
  });
  for (const signal of ['SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGVTALRM', 'SIGIO', 'SIGPWR'] as const) {
    node.child.kill(signal);
    await until(`word of ${signal}`, () => told.includes(`${signal} does nothing`));
  }
  assert.is((await ask(['status', '--node', folder])).verdict, 'ok');
  const { code, stderr } = await node.stop();
  assert.is(code, 0);
  assert.not.match(stderr, 'Debugger');
});

check('a signal during the start is heard once the node is open', async () => {
  const { folder, devices } = await made(1);
  const child = startProcess(process.execPath, [command, 'up', folder]);
  const ended = ending(child);
  // From when it holds its device, or later.
  await until('the device to be opened', () => {
    try {
      const open = readdirSync(`/proc/${child.pid}/fd`).some((fd) => existsSync(`/proc/${child.pid}/fd/${fd}`));
      return open && readFileSync('/proc/locks', 'utf8').includes(` ${child.pid} `);
    } catch {
      return false;
    }
  });
  child.kill('SIGTERM');
  const { code, stderr } = await ended;
  assert.is(code, 0, stderr);
  assert.equal(socketsIn(folder), []);
  await closedInOrder(devices[0]);
});

check('a node goes on when nobody reads what it prints', async () => {
  const { folder, devices } = await made(1);
  const node = await up([folder, '--create', 'main=4M']);
  node.child.stdout?.destroy();
  node.child.stderr?.destroy();
  // Each of them is told of on standard error, which is a pipe without a reader.
  for (const signal of ['SIGUSR1', 'SIGUSR2'] as const) node.child.kill(signal);
  assert.is((await ask(['status', '--node', folder])).verdict, 'ok');
  assert.is((await node.stop()).code, 0);
  assert.equal(socketsIn(folder), []);
  await closedInOrder(devices[0]);
});

check('a terminal that is closed stops the node that runs on it', [tool('script')], async () => {
  const { folder, devices } = await made(1);
  const line = `exec ${process.execPath} ${command} up ${folder}`;
  const terminal = startProcess('script', ['--quiet', '--command', line, '/dev/null'], { stdin: 'pipe' });
  let told = '';
  terminal.stdout?.setEncoding('utf8').on('data', (text: string) => {
    told += text;
  });
  await until('the node to serve', () => told.includes('stop '));
  assert.match(told, 'Ctrl-C, or SIGTERM, or `strake down`');
  const { process: self } = await ask(['status', '--node', folder]);
  const { pid } = self as { pid: number };
  terminal.kill('SIGKILL');
  await until('the node to end', () => !runs(pid));
  assert.equal(socketsIn(folder), []);
  await closedInOrder(devices[0]);
});

check('without a terminal nobody is told of Ctrl-C; sockets of a node that was killed are replaced', async () => {
  const { folder } = await made(1);
  const node = await up([folder]);
  node.child.kill('SIGKILL');
  await node.ended;
  assert.equal(socketsIn(folder), SOCKETS);
  const child = startProcess('setsid', ['--wait', process.execPath, command, 'up', folder]);
  let told = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    told += text;
  });
  await until('the node to serve', () => told.includes('stop '));
  const pid = /^stop +kill (\d+) \(SIGTERM\), or `strake down`$/m.exec(told)?.[1];
  assert.ok(pid !== undefined, told);
  process.kill(Number(pid), 'SIGTERM');
  await until('the node to end', () => !runs(Number(pid)));
  assert.equal(socketsIn(folder), []);
});

check('a bench that is interrupted leaves neither servers nor files', [tool('fio')], async () => {
  const folder = join(scratchFolder(), 'bench-tmp');
  mkdirSync(folder);
  const args = ['bench', scratchFile(4 << 20), '--only', 'nbd.randread.4k.qd1', '--seconds', '600'];
  const child = startProcess(process.execPath, [command, ...args], { env: { ...process.env, TMPDIR: folder } });
  const ended = ending(child);
  const children = () =>
    readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
  const servers = await until('a server', () => {
    const found = children();
    return readdirSync(folder).length > 0 && found.length > 0 && found;
  });
  child.kill('SIGTERM');
  assert.is((await ended).code, 130);
  assert.equal(readdirSync(folder), []);
  for (const pid of servers) await until('the server to end', () => !runs(Number(pid)));
});

/** `npm start` of an empty folder, as a script or a service calls it. */
async function npmStart(folder: string): Promise<UpProcess> {
  const program = ['npm', 'start', '--silent', '--'];
  return await up([], { program, env: { STRAKE_DATA: folder }, bare: true });
}

check('the end of npm is the end of the cluster that it has started', [tool('npm')], async () => {
  const folder = nodeFolder();
  // npm passes the first two on; of the others it is only seen that npm is gone.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL'] as const) {
    const node = await npmStart(folder);
    const pid = Number(node.data.pid);
    assert.not.equal(pid, node.child.pid);
    node.child.kill(signal);
    const { code, stderr } = await node.ended;
    await until(`the cluster to end after ${signal}`, () => !runs(pid));
    assert.equal(socketsIn(folder), [], signal);
    assert.match(stderr, STOPPED);
    if (signal === 'SIGTERM' || signal === 'SIGINT') assert.is(code, 0, stderr);
    await closedInOrder(join(folder, 'n1', 'disk.img'));
  }
});

check('npm runs every script in place of its shell, which would not pass a signal on', () => {
  const { scripts } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as { scripts: object };
  for (const [name, line] of Object.entries(scripts)) assert.match(line, /^exec node [^&|;]+$/, name);
});

run();
