/** A client of the kind that keeps a server from finishing. */

import { connect, type Socket } from 'node:net';
import { until } from './scratch.js';

const MIB = 1 << 20;

/** A client that has asked for 64 MiB and takes little of it, so that a server cannot finish answering it. */
export async function greedyClient(socket: string, name = ''): Promise<Socket> {
  const client = connect(socket);
  const hello = Buffer.alloc(20 + name.length);
  hello.writeUInt32BE(3, 0);
  hello.write('IHAVEOPT', 4);
  hello.writeUInt32BE(1, 12);
  hello.writeUInt32BE(name.length, 16);
  hello.write(name, 20);
  client.write(hello);
  for (let request = 0; request < 64; request += 1) {
    const header = Buffer.alloc(28);
    header.writeUInt32BE(0x25609513, 0);
    header.writeUInt32BE(MIB, 24);
    client.write(header);
  }
  client.on('error', () => {});
  client.on('data', () => {
    if (client.bytesRead > 100_000) client.pause();
  });
  await until('answers', () => client.isPaused());
  return client;
}
