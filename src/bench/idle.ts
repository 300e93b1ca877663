/** What a server costs when nothing happens. */

import { rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ConnectionResources } from '../net/connection-resources.js';
import { type Figure, figure } from './figures.js';
import { memoryBytes, processorTimeUs, ServerProcess } from './processes.js';

const COMMAND = fileURLToPath(new URL('../cli/main.js', import.meta.url));
const CPU_SHARE_MAX = 0.01;
const MEMORY_MIB_MAX = 150;

/** Processor share of an idle server with an idle client over `seconds`, and its memory beyond its buffers. */
export async function idleFigures(folder: string, seconds: number): Promise<Figure[]> {
  const socket = join(folder, 'idle.sock');
  await rm(socket, { force: true });
  const server = new ServerProcess('strake', process.execPath, [COMMAND, 'export', 'null:1G', '--socket', socket]);
  try {
    await server.listening(socket);
    const client = connect(socket);
    await new Promise((resolve) => client.once('data', resolve));
    const before = processorTimeUs(server.pid);
    // Waiting is what is measured here.
    await pause(seconds * 1000);
    const share = (processorTimeUs(server.pid) - before) / (seconds * 1e6);
    const beyond = (memoryBytes(server.pid, 'VmRSS') - ConnectionResources.regionBytes()) / 2 ** 20;
    client.destroy();
    return [
      figure('idle processor share', share, 'max', CPU_SHARE_MAX),
      figure('memory beyond the buffers, MiB', beyond, 'max', MEMORY_MIB_MAX),
    ];
  } finally {
    await server.stop();
  }
}
