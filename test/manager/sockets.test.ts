/** Managers asked over real sockets, unix and TCP, by both engines: calls long and short, what breaks, and whoever is no client. */

import { type Socket, connect as tcp } from 'node:net';
import * as assert from 'uvu/assert';
import { CALLING_BYTES, type CallSessionParts } from '#strake/client/manager/call-session.js';
import { ManagerSession } from '#strake/client/manager/manager-session.js';
import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import { addressText } from '#strake/core/stream-address.js';
import { Watch } from '#strake/core/watch.js';
import { SecretKey } from '#strake/keys/cluster-key.js';
import { ManagerService, managerSizes } from '#strake/manager/manager-service.js';
import { ConnectionResources } from '#strake/net/connection-resources.js';
import type { StreamAddress } from '#strake/ports/transport.js';
import { Engine } from '#strake/uring/engine.js';
import { type Listener, listen, UringTransport } from '#strake/uring/transport.js';
import type { Calls } from '#strake/wire/manager-calls.js';
import { authenticateMap } from '#strake/wire/maps.js';
import { SessionServer } from '#strake/wire/session-server.js';
import { answering, scriptedCalls } from '../support/call-world.js';
import { check, run, uring } from '../support/check.js';
import { failure } from '../support/failure.js';
import { socketPath } from '../support/scratch.js';
import { MAP } from '../support/wire-examples.js';

const CLUSTER = 'c'.repeat(32);
const key = (byte: number) => new SecretKey(new Uint8Array(32).fill(byte));
const STATUS = { clusterId: CLUSTER, epoch: 1, sequence: 7, times: DEFAULT_TIMES, deciding: true, awaited: [] };
const CONNECTIONS = 8;
type Kind = 'io_uring' | 'threads';

class Process {
  readonly engine: Engine;
  readonly ports;

  constructor(kind: Kind, arenaBytes: number) {
    const sizes = { arenaBytes, operationsMax: 256, filesMax: 64, threads: 2 };
    this.engine = new Engine({ kind, blocking: false, engines: 3, onWake: () => {}, ...sizes });
    this.engine.native.setRef(true);
    const transport = new UringTransport(this.engine);
    this.ports = { completions: this.engine, memory: this.engine, clock: this.engine, transport };
  }

  close(): void {
    this.engine.close(1000);
  }
}

class Manager extends Process {
  readonly service: ManagerService;
  readonly address: StreamAddress;
  private readonly listener: Listener;
  private readonly server: SessionServer;

  constructor(kind: Kind, calls: Calls, where: StreamAddress) {
    super(kind, ConnectionResources.regionBytes(managerSizes(CONNECTIONS)));
    const { ports, engine } = this;
    this.service = new ManagerService({
      ...{ ports, calls, watch: new Watch(engine, engine), memoryStart: 0, sizes: managerSizes(CONNECTIONS) },
      ...{ key: key(1), identity: { nodeId: 'd'.repeat(32), clusterId: CLUSTER }, addresses: [addressText(where)] },
    });
    this.listener = listen(engine, where);
    this.address = 'path' in where ? where : { host: where.host, port: this.listener.port ?? 0 };
    this.server = new SessionServer(this.service.desk, ports, this.listener.file);
  }

  async stop(): Promise<void> {
    this.listener.removePath();
    await new Promise<void>((resolve) => this.server.drain(resolve));
    assert.equal(this.service.usage(), { connections: 0, buffers: 0 });
    this.service.close();
    this.close();
  }
}

class Client extends Process {
  readonly session: ManagerSession;
  readonly reasons: string[] = [];

  constructor(kind: Kind, addresses: readonly StreamAddress[], changes: Partial<CallSessionParts> = {}) {
    super(kind, CALLING_BYTES);
    this.session = new ManagerSession({
      ...{ ports: this.ports, memoryStart: 0, key: key(1), clusterId: CLUSTER, clientId: 'e'.repeat(32) },
      ...{ principal: 'test', addresses },
      hooks: { onMaps: () => {}, onState: ({ reason }) => this.reasons.push(reason) },
      ...changes,
    });
  }

  stop(): void {
    this.session.close();
    this.close();
  }
}

for (const kind of ['io_uring', 'threads'] as const) {
  const needs = kind === 'io_uring' ? [uring] : [];

  check(`calls are answered over unix sockets and TCP (${kind})`, needs, async () => {
    const maps = Array.from({ length: 500 }, (_, group) => authenticateMap({ ...MAP, group, groups: 500 }, key(1)));
    for (const where of [{ path: socketPath() }, { host: '127.0.0.1', port: 0 }]) {
      const { calls } = answering({ status: () => STATUS, adopt: () => maps, fetch: () => ({ maps, devices: [] }) });
      const manager = new Manager(kind, calls, where);
      const client = new Client(kind, [manager.address]);
      const { session } = client;
      const answers = await Promise.all([session.status(), session.adopt(maps), session.fetch('db'), session.status()]);
      assert.equal(answers, [STATUS, maps, { maps, devices: [] }, STATUS]);
      client.stop();
      await manager.stop();
    }
  });

  check(`a manager that stops and starts anew is asked again (${kind})`, needs, async () => {
    const path = socketPath();
    let asked: () => void = () => {};
    const arrived = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const first = new Manager(
      kind,
      scriptedCalls(() => {
        asked();
        return new Promise(() => {});
      }),
      { path },
    );
    const client = new Client(kind, [{ path }]);
    const status = client.session.status();
    await arrived;
    // As a process that is killed: the kernel closes its sockets.
    first.close();
    const second = new Manager(kind, answering({ status: () => STATUS }).calls, { path });
    assert.equal(await status, STATUS);
    assert.is(client.reasons[0], '');
    client.stop();
    await second.stop();
  });

  check(`who has no key, garbage to say or nothing at all harms nobody (${kind})`, needs, async () => {
    const manager = new Manager(kind, answering({ status: () => STATUS }).calls, { host: '127.0.0.1', port: 0 });
    const { address } = manager;
    const stranger = new Client(kind, [address], { key: key(2) });
    await failure('NO_MANAGER', stranger.session.status(), /does not have the key of this cluster/);
    const sockets: Socket[] = [];
    const ended = ['', 'STKW', 'GET / HTTP/1.1\r\n\r\n', '\0'.repeat(4096), 'x'.repeat(100_000)].map(
      (text) =>
        new Promise<void>((resolve) => {
          const socket = tcp('port' in address ? address.port : 0, '127.0.0.1', () => socket.write(text));
          sockets.push(socket);
          socket.resume();
          socket.on('error', () => {});
          socket.on('close', () => resolve());
        }),
    );
    const client = new Client(kind, [address]);
    for (let count = 0; count < 50; count += 1) assert.equal(await client.session.status(), STATUS);
    // Those that have said something wrong are gone by themselves.
    await Promise.all(ended.slice(2));
    for (const socket of sockets) socket.destroy();
    client.stop();
    stranger.stop();
    await manager.stop();
  });
}

run();
