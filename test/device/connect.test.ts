/** Connections to listeners outside of the engine, real ones: those that come about, are refused, hang, and are given up. */

import { createServer, type Server, type Socket } from 'node:net';
import * as assert from 'uvu/assert';
import { ECANCELED, ECONNREFUSED, EINVAL, ENAMETOOLONG, ENOENT } from '#strake/core/errno.js';
import { NO_FILE, type StreamAddress } from '#strake/ports/transport.js';
import { Engine, type EngineKind } from '#strake/uring/engine.js';
import { UringTransport } from '#strake/uring/transport.js';
import { check, run, uring } from '../support/check.js';
import { socketPath } from '../support/scratch.js';

const ARENA = 64 << 10;
const WORDS = 'over the wire';

/** An engine whose operations are awaited. */
class Caller {
  readonly engine: Engine;
  readonly transport: UringTransport;
  private readonly waiting: ((result: number) => void)[] = [];
  private readonly token: number;

  constructor(kind: EngineKind) {
    const sizes = { arenaBytes: ARENA, operationsMax: 16, filesMax: 4, threads: 2 };
    this.engine = new Engine({ kind, blocking: false, engines: 1, onWake: () => {}, ...sizes });
    this.engine.native.setRef(true);
    this.transport = new UringTransport(this.engine);
    this.token = this.engine.register({ complete: (tag, result) => this.waiting[tag](result) });
  }

  result(start: (token: number) => void): Promise<number> {
    return new Promise((resolve) => start(this.token + this.waiting.push(resolve) - 1));
  }

  /** What `connect` returns, and its result. */
  connect(address: StreamAddress): { file: number; result: Promise<number> } {
    let file = NO_FILE;
    const result = this.result((token) => {
      file = this.transport.connect(address, token);
    });
    return { file, result };
  }

  send(file: number, text: string): Promise<number> {
    this.engine.bytes.set(Buffer.from(text));
    this.transport.addPiece(0, text.length);
    return this.result((token) => this.transport.send(file, token));
  }

  async receive(file: number): Promise<string> {
    const length = await this.result((token) => this.transport.receive(file, 4096, 4096, 0, token));
    return Buffer.from(this.engine.bytes.slice(4096, 4096 + Math.max(0, length))).toString();
  }

  get files(): number {
    return this.engine.native.status()?.files ?? -1;
  }

  close(): void {
    this.engine.close(1000);
  }
}

/** A server of Node.js that sends back what it gets. */
async function echo(address: StreamAddress | 'tcp'): Promise<{ server: Server; address: StreamAddress }> {
  const server = createServer((socket: Socket) => socket.pipe(socket).on('error', () => {}));
  await new Promise<void>((resolve) => {
    if (address === 'tcp') server.listen(0, '127.0.0.1', resolve);
    else if ('path' in address) server.listen(address.path, resolve);
  });
  const found = server.address();
  if (typeof found === 'string' || found === null) return { server, address: address as StreamAddress };
  return { server, address: { host: found.address, port: found.port } };
}

for (const kind of ['io_uring', 'threads'] as const) {
  const needs = kind === 'io_uring' ? [uring] : [];

  check(`a listener is reached by path and by address, and answers (${kind})`, needs, async () => {
    const caller = new Caller(kind);
    for (const where of [{ path: socketPath() }, 'tcp'] as const) {
      const { server, address } = await echo(where);
      const { file, result } = caller.connect(address);
      assert.is(await result, file);
      assert.ok((await caller.send(file, WORDS)) >= 0);
      assert.is(await caller.receive(file), WORDS);
      caller.transport.shutdown(file);
      caller.transport.close(file);
      assert.is(caller.files, 0);
      server.close();
    }
    caller.close();
  });

  check(`where nobody listens, and where nobody could, the result says so (${kind})`, needs, async () => {
    const caller = new Caller(kind);
    const { server, address } = await echo('tcp');
    await new Promise((resolve) => server.close(resolve));
    for (const [nobody, errno] of [
      [address, ECONNREFUSED],
      [{ path: `${socketPath()}/none` }, ENOENT],
    ] as const) {
      const { file, result } = caller.connect(nobody);
      assert.not(file === NO_FILE);
      assert.is(await result, -errno);
    }
    for (const [nowhere, errno] of [
      [{ path: 'x'.repeat(108) }, ENAMETOOLONG],
      [{ path: '' }, ENAMETOOLONG],
      [{ host: 'localhost', port: 1 }, EINVAL],
      [{ host: '127.0.0.1', port: 65_536 }, EINVAL],
    ] as const) {
      const { file, result } = caller.connect(nowhere);
      assert.is(file, NO_FILE, JSON.stringify(nowhere));
      assert.is(await result, -errno);
    }
    assert.is(caller.files, 0);
    caller.close();
  });

  check(`a connect that is closed in its batch, or while it hangs, is given up (${kind})`, needs, async () => {
    const caller = new Caller(kind);
    const { server, address } = await echo({ path: socketPath() });
    const early = caller.connect(address);
    caller.transport.close(early.file);
    const next = caller.connect(address);
    // It may have come about already; then closing it is what it always is.
    const result = await early.result;
    assert.ok(result === -ECANCELED || result === early.file, String(result));
    assert.is(await next.result, next.file);
    caller.transport.close(next.file);
    server.close();
    // Nobody accepts here: the queue of a listener takes two, and the third waits.
    const path = socketPath();
    const listener = new Engine({
      ...{ kind, blocking: false, engines: 1, onWake: () => {}, arenaBytes: ARENA },
      ...{ operationsMax: 16, filesMax: 4, threads: 2 },
    });
    listener.native.listenUnix(path);
    const held: number[] = [];
    let hanging = caller.connect({ path });
    for (let count = 0; ; count += 1) {
      assert.ok(count < 1000, 'a queue has an end');
      const ended = await Promise.race([
        hanging.result,
        new Promise<null>((resolve) => setTimeout(resolve, 100, null)),
      ]);
      if (ended === null || ended < 0) break;
      held.push(ended);
      caller.transport.close(ended);
      hanging = caller.connect({ path });
    }
    assert.ok(held.length > 0);
    caller.transport.shutdown(hanging.file);
    caller.transport.close(hanging.file);
    assert.is(await hanging.result, -ECANCELED);
    assert.is(caller.files, 0);
    listener.close(1000);
    caller.close();
  });
}

run();
