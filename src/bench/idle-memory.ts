/** How much memory a node takes that has nothing to do, beside what Node.js takes by itself. */

import { setTimeout as pause } from 'node:timers/promises';
import { NodeProcess, prepareDevices } from './node-process.js';
import { memoryBytes, ServerProcess } from './processes.js';
import type { ProbeContext, Sample } from './samples.js';

const DEVICES = 4;
const VOLUME_BYTES = 16 << 20;
/** Until what opening has left to do is done. */
const SETTLE_MS = 6000;
/** A round of less measures nothing: it only shows that this works. */
const MEASURED_SECONDS = 1;

/** A node with four devices, without clients, and a program of one line. */
export async function sampleIdleMemory({ files, seconds }: ProbeContext): Promise<Sample[]> {
  const used = files.slice(0, DEVICES);
  await prepareDevices({ files: used, volumeBytes: VOLUME_BYTES, warmUpBytes: 0, fill: 'touch' });
  const bare = new ServerProcess('node', process.execPath, ['-e', 'setInterval(() => {}, 1e9)']);
  try {
    const node = await NodeProcess.start({ files: used });
    try {
      await pause(seconds >= MEASURED_SECONDS ? SETTLE_MS : seconds * 1000);
      const beyond = memoryBytes(node.server.pid, 'VmRSS') - memoryBytes(bare.pid, 'VmRSS');
      return [{ id: 'idle.memory', unit: 'MiB', strake: beyond / 2 ** 20 }];
    } finally {
      await node.stop();
    }
  } finally {
    await bare.stop();
  }
}
