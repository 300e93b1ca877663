/**
 * Embedding Strake: opens a device, writes and reads it, and serves it over NBD until Ctrl-C.
 *
 *     node embed.mjs DEVICE SOCKET
 *
 * DEVICE is a block device or a file; what its first 16 bytes hold is overwritten.
 */

import { subscribe } from 'node:diagnostics_channel';
import { openDevice, serveNbd } from 'strake';

const [path, socket] = process.argv.slice(2);
if (!path || !socket) throw new Error('usage: node embed.mjs DEVICE SOCKET');

// What happens by itself is told here: a device that is fenced, a worker that was replaced.
subscribe('strake:event', (event) => console.error('event', event));

const device = await openDevice(path);
console.log(`${device.path} has ${device.sizeBytes} bytes`);

// Any offset and any length; durable when the promise of a write with `fua`, or of a flush after it, resolves.
await device.write(Buffer.from('written by embed'), 0, { fua: true });
const back = Buffer.alloc(16);
await device.read(back, 0);
console.log(`read back: ${back}`);

// The server runs in worker threads. It goes on while this thread is busy.
const server = await serveNbd(device, { socket });
console.log(`serving at ${server.uri}`);

// Strake installs no signal handlers: when to stop is this program's business.
process.once('SIGINT', async () => {
  await server.close();
  await device.close();
  console.log('closed');
});
