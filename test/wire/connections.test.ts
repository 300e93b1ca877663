/**
 * Frames on their way: the handshake, a write and a read between two ends, over real sockets and in a simulated network, which cuts
 * the stream wherever it likes.
 */

import * as assert from 'uvu/assert';
import type { ClusterKey } from '#strake/ports/cluster-key.js';
import { REQUEST_FUA, REQUEST_READ, REQUEST_WRITE, SegmentRequest } from '#strake/ports/segment-request.js';
import { ACCEPT_PEER } from '#strake/ports/transport.js';
import { SimNetwork } from '#strake/sim/net/network.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { SimWorld } from '#strake/sim/world/world.js';
import { Engine } from '#strake/uring/engine.js';
import { listen, UringTransport } from '#strake/uring/transport.js';
import { Frame } from '#strake/wire/frame.js';
import { HelloAnswerer, HelloAsker } from '#strake/wire/hello.js';
import { REQUEST_WORDS_MAX } from '#strake/wire/limits.js';
import {
  FROM_ANSWERER,
  FROM_ASKER,
  HEADER_BYTES,
  KIND_CHALLENGE,
  KIND_HELLO,
  KIND_REPLIES,
  KIND_REPLY,
  KIND_WELCOME,
} from '#strake/wire/messages.js';
import {
  Answer,
  decodeReply,
  encodeReplies,
  encodeReply,
  getPacked,
  packedAt,
  putPacked,
  replySumsAt,
} from '#strake/wire/reply-codec.js';
import { decodeRequest, encodeRequest, requestHeadBytes, sumsAt, wrongBlock } from '#strake/wire/request-codec.js';
import { check, repetitions, run, uring } from '../support/check.js';
import { socketPath } from '../support/scratch.js';
import { exampleAddress, KEY } from '../support/wire-examples.js';
import { Operations, WirePeer } from '../support/wire-peer.js';

const BLOCK = 4096;
const ARENA = 2 << 20;
/** Where buffers are, each after a page for header and vector; and where what arrives goes. */
const BUFFER = 16 * BLOCK;
const AREA = 128 * BLOCK;
const AREA_BYTES = 256 * BLOCK;
const BLOCKS = 40;
const CLUSTER = 'c'.repeat(32);

async function serve(peer: WirePeer, operations: Operations, key: ClusterKey): Promise<void> {
  const { memory } = operations.ports;
  const answerer = new HelloAnswerer(key, { nodeId: 'd'.repeat(32), clusterId: CLUSTER, features: [] });
  await peer.say(BUFFER, KIND_CHALLENGE, answerer.challenge());
  const hello = await peer.next();
  assert.is(hello.frame.kind, KIND_HELLO);
  answerer.takeHello(hello.payload);
  await peer.say(BUFFER, KIND_WELCOME, answerer.welcome({ creditRequests: 4, creditBytes: ARENA, shards: ['here'] }));
  peer.reader.open(1);
  const [request, entries, answer, frame] = [
    new SegmentRequest(),
    new Uint32Array(REQUEST_WORDS_MAX),
    new Answer(),
    new Frame(),
  ];
  for (let served = 0; served < 2; served += 1) {
    const { frame: asked, at } = await peer.next();
    const vector = at + HEADER_BYTES;
    assert.is(decodeRequest(memory, asked, vector, request, entries), null);
    answer.request = asked.request;
    if (request.kind === REQUEST_WRITE) {
      const blocks = vector + 4 * request.blocks;
      assert.is(wrongBlock(memory, vector + sumsAt(asked), blocks, request.blocks), -1);
      memory.bytes.copyWithin(BUFFER + BLOCK, blocks, blocks + request.blocks * BLOCK);
      putPacked(memory.view, packedAt(BUFFER, 0), answer.result(request.blocks * BLOCK));
      await peer.send([BUFFER, encodeReplies(memory, frame, BUFFER, 1)]);
      continue;
    }
    const head = encodeReply(memory, frame, BUFFER, answer.result(request.blocks * BLOCK), request, BUFFER + BLOCK);
    await peer.send([BUFFER, head], [BUFFER + BLOCK, request.blocks * BLOCK]);
  }
}

async function ask(peer: WirePeer, operations: Operations, key: ClusterKey): Promise<void> {
  const { memory } = operations.ports;
  const asker = new HelloAsker(key, {
    clientId: 'e'.repeat(32),
    clusterId: CLUSTER,
    session: 1,
    principal: 'me',
    features: [],
  });
  const challenge = await peer.next();
  assert.is(challenge.frame.kind, KIND_CHALLENGE);
  await peer.say(BUFFER, KIND_HELLO, asker.takeChallenge(challenge.payload).hello);
  const welcome = await peer.next();
  assert.equal([welcome.frame.kind, asker.takeWelcome(welcome.payload).creditRequests], [KIND_WELCOME, 4]);
  peer.reader.open(1);
  const [request, frame, answer] = [new SegmentRequest(), new Frame(), new Answer()];
  request.begin(REQUEST_WRITE, 3, 0);
  [request.block, request.blocks, request.flags] = [1, BLOCKS, REQUEST_FUA];
  for (let at = 0; at < BLOCKS * BLOCK; at += 1) memory.bytes[BUFFER + at] = Math.imul(at, 0x9e37_79b9) >>> 24;
  const content = memory.bytes.slice(BUFFER, BUFFER + BLOCKS * BLOCK);
  frame.request = 70;
  // Header, vector and blocks lie one behind the other, and leave as one piece.
  const head = requestHeadBytes(request);
  encodeRequest(memory, frame, BUFFER - head, request, exampleAddress(), BUFFER);
  await peer.send([BUFFER - head, head + BLOCKS * BLOCK]);
  const replies = await peer.next();
  assert.is(replies.frame.kind, KIND_REPLIES);
  getPacked(memory.view, packedAt(replies.at, 0), answer);
  assert.equal([answer.request, answer.asResult], [70, BLOCKS * BLOCK]);
  request.begin(REQUEST_READ, 3, 0);
  [request.block, request.blocks] = [1, BLOCKS];
  frame.request = 71;
  encodeRequest(memory, frame, BUFFER, request, exampleAddress(), 0);
  await peer.send([BUFFER, HEADER_BYTES]);
  const reply = await peer.next();
  assert.equal([reply.frame.kind, reply.frame.request], [KIND_REPLY, 71]);
  const vector = reply.at + HEADER_BYTES;
  assert.is(decodeReply(memory, reply.frame, vector, request), null);
  const sums = vector + replySumsAt(reply.frame.flags);
  assert.is(wrongBlock(memory, sums, sums + 4 * BLOCKS, BLOCKS), -1);
  assert.equal(reply.payload.subarray(4 * BLOCKS), content);
}

for (const kind of ['io_uring', 'threads'] as const) {
  check(`a handshake, a write and a read over real sockets (${kind})`, kind === 'io_uring' ? [uring] : [], async () => {
    const engines = [0, 1].map(() => {
      const sizes = { arenaBytes: ARENA, operationsMax: 16, filesMax: 4, threads: 1 };
      const engine = new Engine({ kind, blocking: false, engines: 2, onWake: () => {}, ...sizes });
      engine.native.setRef(true);
      return engine;
    });
    const [near, far] = engines.map(
      (engine) => new Operations({ completions: engine, memory: engine, transport: new UringTransport(engine) }),
    );
    for (const where of [{ path: socketPath() }, { host: '127.0.0.1', port: 0 }]) {
      const listener = listen(engines[1], where);
      const address = 'path' in where ? where : { host: where.host, port: listener.port ?? 0 };
      const accepted = far.result((token) => far.ports.transport.accept(listener.file, token, ACCEPT_PEER));
      const file = await near.result((token) => near.ports.transport.connect(address, token));
      const other = await accepted;
      await Promise.all([
        ask(new WirePeer(near, file, FROM_ANSWERER, AREA, AREA_BYTES), near, KEY),
        serve(new WirePeer(far, other, FROM_ASKER, AREA, AREA_BYTES), far, KEY),
      ]);
      for (const [operations, one] of [
        [near, file],
        [far, other],
      ] as const) {
        operations.ports.transport.shutdown(one);
        operations.ports.transport.close(one);
      }
      far.ports.transport.shutdown(listener.file);
      far.ports.transport.close(listener.file);
      listener.removePath();
    }
    for (const engine of engines) engine.close(1000);
  });
}

check('the same in a simulated network, with the key of a simulation', async () => {
  for (let seed = 1; seed <= repetitions(40, 10); seed += 1) {
    const world = new SimWorld({ seed });
    const network = new SimNetwork(world.time, { loss: seed % 3 === 0 ? 0.1 : 0 });
    const [near, far] = ['one', 'two'].map((name, index) => {
      const process = world.addHost(name).start({ seed: seed + index, arena: new Uint8Array(ARENA) });
      const transport = new SimTransport(process, {}, network);
      return { operations: new Operations({ completions: process, memory: process, transport }), transport };
    });
    const listener = far.transport.listen('node');
    const accepted = far.operations.result((token) => far.transport.accept(listener, token));
    const connected = near.operations.result((token) => near.transport.connect({ path: 'node' }, token));
    const [file, other] = await world.settle(Promise.all([connected, accepted]));
    await world.settle(
      Promise.all([
        ask(
          new WirePeer(near.operations, file, FROM_ANSWERER, AREA, AREA_BYTES),
          near.operations,
          new SimKey(1, new SimRandom(seed)),
        ),
        serve(
          new WirePeer(far.operations, other, FROM_ASKER, AREA, AREA_BYTES),
          far.operations,
          new SimKey(1, new SimRandom(seed + 9)),
        ),
      ]),
    );
  }
});

run();
