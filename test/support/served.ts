/** A scratch file that is served over NBD by a shard of this process, and its honest clients. */

import * as assert from 'uvu/assert';
import { type Device, type NbdServerHandle, type OpenDeviceOptions, openDevice, serveNbd } from '#strake/index.js';
import { NbdClient, TX, type Wishes } from './nbd-client.js';
import { atEnd, scratchFile, socketPath, until } from './scratch.js';
import { keepShards, letShardsGo } from './shards.js';

/** What is served, and how. */
export interface ServedOptions extends OpenDeviceOptions {
  /** Size of the file, or what it holds. */
  readonly content?: number | Uint8Array;
  readonly name?: string;
  readonly description?: string;
  /** Of the export; the device stays open for writing. */
  readonly exportReadOnly?: boolean;
  readonly connectionsMax?: number;
}

const SIZE_BYTES = 1 << 20;

export class Served {
  readonly file: string;
  readonly socket: string;
  readonly device: Device;
  readonly server: NbdServerHandle;

  private constructor(file: string, socket: string, device: Device, server: NbdServerHandle) {
    this.file = file;
    this.socket = socket;
    this.device = device;
    this.server = server;
  }

  static async start(options: ServedOptions = {}): Promise<Served> {
    const { content = SIZE_BYTES, name, description, exportReadOnly, connectionsMax, ...rest } = options;
    if (options.faults === undefined) await keepShards();
    else await letShardsGo();
    const file = scratchFile(content);
    const socket = socketPath();
    const device = await openDevice(file, rest);
    const server = await serveNbd(device, {
      socket,
      ...(name === undefined ? {} : { name }),
      ...(description === undefined ? {} : { description }),
      ...(exportReadOnly === undefined ? {} : { readOnly: exportReadOnly }),
      ...(connectionsMax === undefined ? {} : { connectionsMax }),
    });
    const served = new Served(file, socket, device, server);
    // A test that fails leaves its server behind; it must not keep the process alive.
    atEnd(() => void served.stop().catch(() => {}));
    return served;
  }

  connect(wishes: Wishes = {}): Promise<NbdClient> {
    return NbdClient.connect(this.socket, { name: this.name, ...wishes });
  }

  greet(flags?: number): Promise<NbdClient> {
    return NbdClient.greet(this.socket, flags);
  }

  private get name(): string {
    return decodeURIComponent(new URL(this.server.uri).pathname.slice(1));
  }

  async figures(): Promise<Readonly<Record<string, number>>> {
    return (await this.device.stats()).nbd;
  }

  /** Proves that the server serves others: new clients, several at once, write, flush and read back. */
  async honest(): Promise<void> {
    await Promise.all([0, 1, 2].map((number) => this.honestClient(number)));
  }

  private async honestClient(number: number): Promise<void> {
    const offset = 4096 + number * 8192;
    const client = await this.connect({ structured: true });
    if ((client.flags & TX.readOnly) === 0) {
      const data = Buffer.alloc(8192, number);
      // Something new each time, in digits: attacks are told by bytes that no honest client writes.
      data.write(String(process.hrtime.bigint()));
      await client.write(offset, data);
      await client.flush();
      assert.ok((await client.read(offset, data.length)).equals(data), 'an honest client reads what it wrote');
    } else {
      await client.read(offset, 8192);
    }
    await client.disconnect();
  }

  /** Waits until no connection, buffer or request is held any more. */
  async atRest(): Promise<void> {
    await until('connections, buffers and requests to be given back', async () => {
      const { nbd } = await this.device.stats();
      return (
        nbd.connections + nbd.handshakes + nbd.buffersInUse + nbd.requestsInFlight + nbd.bulkBuffersInUse === 0 &&
        nbd.buffersQuarantined === 0
      );
    });
  }

  private closedByTest = false;

  /** Closes the server before the test ends; how that ends is for the test to judge. */
  closeServer(): Promise<void> {
    this.closedByTest = true;
    return this.server.close();
  }

  async stop(): Promise<void> {
    try {
      if (!this.closedByTest) await this.server.close();
    } finally {
      await this.device.close();
    }
  }
}

/** Runs a test against a server. */
export async function serving(options: ServedOptions, body: (served: Served) => Promise<void>): Promise<void> {
  const one = await Served.start(options);
  try {
    await body(one);
  } finally {
    await one.stop();
  }
}

/**
 * Likewise, and afterwards demands what no client may take from others: an honest client is served, and nothing is held
 * on to.
 */
export function served(options: ServedOptions, body: (served: Served) => Promise<void>): Promise<void> {
  return serving(options, async (one) => {
    await body(one);
    await one.honest();
    await one.atRest();
  });
}
