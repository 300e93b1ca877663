/**
 * Ends of sessions that are not what they should be: clients without the key, beyond their credits, or with another number, and
 * nodes that answer what nobody asked. Each is told why, if it can be, and has no more.
 */

import * as assert from 'uvu/assert';
import { NodeSession } from '#strake/client/members/node-session.js';
import { EINVAL } from '#strake/core/errno.js';
import { NO_FLUSH } from '#strake/layout/flush-id.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { SEGMENT_SIZES } from '#strake/node/segment-service.js';
import { REQUEST_ALLOCATE, REQUEST_READ, REQUEST_WRITE, SegmentRequest } from '#strake/ports/segment-request.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import type { SimProcess } from '#strake/sim/world/process.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { decodeControl, encodeControl } from '#strake/wire/control.js';
import { encodePayload, Frame, putHeader } from '#strake/wire/frame.js';
import { FEATURE_PINGS, HelloAnswerer, HelloAsker } from '#strake/wire/hello.js';
import { encodeMaps } from '#strake/wire/maps.js';
import {
  FROM_ANSWERER,
  FROM_ASKER,
  HEADER_BYTES,
  KIND_CHALLENGE,
  KIND_HELLO,
  KIND_OPEN,
  KIND_PING,
  KIND_PONG,
  KIND_PROBE,
  KIND_REFUSED,
  KIND_REPLIES,
  KIND_REPLY,
  KIND_REQUEST,
  KIND_STORE_MAP,
  KIND_WELCOME,
  REPLY_JSON,
  STATUS_BAD_FRAME,
  STATUS_BAD_SUM,
  STATUS_DENIED,
  STATUS_NO_CREDIT,
  STATUS_NOT_OPEN,
  STATUS_OK,
  STATUS_REPLACED,
  STATUS_STALE_MAP,
} from '#strake/wire/messages.js';
import { Answer, encodeReplies, getAnswer, getPacked, packedAt, putPacked } from '#strake/wire/reply-codec.js';
import { encodeRequest, ReplicaAddress, requestHeadBytes } from '#strake/wire/request-codec.js';
import { encodeOpen, type Role, sealTicket } from '#strake/wire/ticket.js';
import { check, run } from '../support/check.js';
import { CLUSTER_ID, SLOT } from '../support/sim-store.js';
import { ADDRESS, deviceIdOf, TwoNodes } from '../support/two-nodes.js';
import { Operations, WirePeer } from '../support/wire-peer.js';

const ARENA = 1 << 20;
/** Where frames are written, and where what arrives goes. */
const OUT = 0;
const AREA = 64 << 10;
const CLIENT = 'e'.repeat(32);

/** A client that says what it wants. */
class Stranger {
  readonly process: SimProcess;
  readonly peer: WirePeer;
  session = 0;
  private readonly nodes: TwoNodes;

  private constructor(nodes: TwoNodes, process: SimProcess, peer: WirePeer) {
    this.nodes = nodes;
    this.process = process;
    this.peer = peer;
  }

  static async connect(nodes: TwoNodes, arenaBytes = ARENA): Promise<Stranger> {
    const process = nodes.engineHost.start({ seed: nodes.nextSeed(), arena: new Uint8Array(arenaBytes) });
    const transport = new SimTransport(process, {}, nodes.network);
    const operations = new Operations({ completions: process, memory: process, transport });
    const file = await nodes.settle(operations.result((token) => transport.connect(ADDRESS, token)));
    return new Stranger(nodes, process, new WirePeer(operations, file, FROM_ANSWERER, AREA, arenaBytes - AREA));
  }

  /** Shakes hands, with a key and a number. Returns the status with which it is refused, or 0. */
  async greet(session: number, keySeed = 7, features: readonly string[] = []): Promise<number> {
    const key = new SimKey(keySeed, this.process.random);
    const asker = new HelloAsker(key, {
      clientId: CLIENT,
      clusterId: CLUSTER_ID,
      session,
      principal: 'x',
      features,
    });
    this.session = session;
    const challenge = await this.next();
    assert.is(challenge.kind, KIND_CHALLENGE);
    await this.nodes.settle(this.peer.say(OUT, KIND_HELLO, asker.takeChallenge(challenge.payload).hello));
    const { kind, payload } = await this.next();
    if (kind === KIND_REFUSED) return decodeControl('refused', payload).status;
    assert.is(kind, KIND_WELCOME);
    asker.takeWelcome(payload);
    this.peer.reader.open(1);
    return 0;
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.nodes.settle(promise);
  }

  async next(): Promise<{ readonly kind: number; readonly payload: Uint8Array; readonly at: number }> {
    const { frame, payload, at } = await this.nodes.settle(this.peer.next());
    return { kind: frame.kind, payload, at };
  }

  /** Asks something of a replica, with a control payload. */
  async askOf(kind: number, map: ReplicaMap, member: number, payload: Uint8Array): Promise<number> {
    const frame = new Frame().begin(kind, 0, 5);
    frame.session = this.session;
    frame.volume.set(map.volume.id);
    frame.group = map.group;
    frame.member = member;
    frame.mapVersion = map.mapVersion;
    await this.nodes.settle(this.peer.send([OUT, encodePayload(this.process, frame, OUT, payload)]));
    const { frame: reply, payload: said, at } = await this.nodes.settle(this.peer.next());
    if (reply.kind === KIND_REFUSED) return decodeControl('refused', said).status;
    const answer = new Answer();
    if (reply.kind === KIND_REPLIES) getPacked(this.process.view, packedAt(at, 0), answer);
    else getAnswer(reply, answer);
    return answer.status;
  }

  /** The payload of OPEN. */
  opening(map: ReplicaMap, role: Role): Uint8Array {
    const { generation, volume } = map;
    const ticket = { volumeId: volume.id, clientId: CLIENT, generation, role };
    return encodeOpen(sealTicket(ticket, new SimKey(7, this.process.random)), map);
  }

  /** Sends a frame of this session with a control payload. */
  async tell(kind: number, payload: Uint8Array): Promise<void> {
    const frame = new Frame().begin(kind, 0, 1);
    frame.session = this.session;
    await this.nodes.settle(this.peer.send([OUT, encodePayload(this.process, frame, OUT, payload)]));
  }

  /** Sends a frame without payload. */
  async ask(kind: number, session: number, count = 0, id = 1): Promise<void> {
    const frame = new Frame().begin(kind, 0, id);
    frame.session = session;
    frame.count = count;
    putHeader(this.process, OUT, frame, false);
    await this.nodes.settle(this.peer.send([OUT, HEADER_BYTES]));
  }
}

async function serving(seed: number): Promise<TwoNodes> {
  const nodes = new TwoNodes(seed);
  await nodes.format();
  await nodes.startServing();
  return nodes;
}

check('a client without the key is refused, and learns nothing', async () => {
  const nodes = await serving(1);
  const stranger = await Stranger.connect(nodes);
  assert.is(await stranger.greet(1, 8), STATUS_DENIED);
  await nodes.pause(100_000);
  assert.equal(nodes.serving.service.usage(), { connections: 0, requests: 0, buffers: 0 });
});

check('what is asked of a replica that is not open is answered with that', async () => {
  const nodes = await serving(2);
  const stranger = await Stranger.connect(nodes);
  assert.is(await stranger.greet(1), 0);
  await stranger.ask(KIND_REQUEST, 1, 1, 77);
  const { kind, at } = await stranger.next();
  assert.is(kind, KIND_REPLIES);
  const answer = new Answer();
  getPacked(stranger.process.view, packedAt(at, 0), answer);
  assert.equal([answer.request, answer.status], [77, STATUS_NOT_OPEN]);
});

check('a frame of another session, and one that nobody takes, end the connection', async () => {
  for (const [kind, session] of [
    [KIND_PROBE, 2],
    [KIND_PING, 1],
  ]) {
    const nodes = await serving(3);
    const stranger = await Stranger.connect(nodes);
    assert.is(await stranger.greet(1), 0);
    await stranger.ask(kind, session);
    const refused = await stranger.next();
    assert.is(refused.kind, KIND_REFUSED);
    assert.is(decodeControl('refused', refused.payload).status, STATUS_BAD_FRAME);
  }
});

check('a second connection is taken of a session that is served, and for pings alone', async () => {
  const nodes = await serving(20);
  const connect = () => Stranger.connect(nodes);
  assert.is(await (await connect()).greet(1, 7, [FEATURE_PINGS]), STATUS_REPLACED, 'it belongs to no session');
  const first = await connect();
  assert.is(await first.greet(3), 0);
  for (const session of [2, 4]) assert.is(await (await connect()).greet(session, 7, [FEATURE_PINGS]), STATUS_REPLACED);
  const second = await connect();
  assert.is(await second.greet(3, 7, [FEATURE_PINGS]), 0);
  const ping = encodeControl('ping', { taken: 0, stalled: [] });
  for (let turn = 0; turn < 3; turn += 1) {
    await second.tell(KIND_PING, ping);
    const { kind, payload } = await second.next();
    assert.equal([kind, decodeControl('pong', payload).taken], [KIND_PONG, 0]);
  }
  await second.ask(KIND_PROBE, 3);
  const refused = await second.next();
  assert.is(decodeControl('refused', refused.payload).status, STATUS_BAD_FRAME);
  // The session goes on without, and has another one, of which the last counts.
  const [third, fourth] = [await connect(), await connect()];
  assert.is(await third.greet(3, 7, [FEATURE_PINGS]), 0);
  assert.is(await fourth.greet(3, 7, [FEATURE_PINGS]), 0);
  await fourth.tell(KIND_PING, ping);
  assert.is((await fourth.next()).kind, KIND_PONG);
  assert.is(nodes.serving.service.usage().connections, 2);
  await first.tell(KIND_PING, ping);
  assert.is((await first.next()).kind, KIND_PONG);
  // What the client says that it has taken has to have been told on the first.
  await fourth.tell(KIND_PING, encodeControl('ping', { taken: 1, stalled: [] }));
  assert.is((await fourth.next()).kind, KIND_REFUSED);
});

check('who asks for more than was granted is cut off', async () => {
  const nodes = await serving(4);
  const stranger = await Stranger.connect(nodes);
  assert.is(await stranger.greet(1), 0);
  // More in one send than may be asked for and not answered.
  const frame = new Frame().begin(KIND_PROBE, 0, 1);
  frame.session = 1;
  for (let index = 0; index < 400; index += 1) putHeader(stranger.process, OUT + index * HEADER_BYTES, frame, false);
  const { service } = nodes.serving;
  await nodes.settle(stranger.peer.send([OUT, 400 * HEADER_BYTES]));
  let status = 0;
  while (status === 0) {
    const { kind, payload } = await stranger.next();
    if (kind === KIND_REFUSED) ({ status } = decodeControl('refused', payload));
    else assert.is(kind, KIND_REPLIES);
  }
  assert.is(status, STATUS_NO_CREDIT);
  await nodes.pause(100_000);
  assert.equal(service.usage(), { connections: 0, requests: 0, buffers: 0 });
});

/** A map that a client brings, with both devices, and the one that is served at this place. */
function mapWith(place: number, mapVersion: number): ReplicaMap {
  const member = { state: 'in-sync', since: NO_FLUSH, incarnation: 1, flushNumber: 0, joined: 1 } as const;
  const ids = place === 0 ? [1, 0] : [0, 1];
  return {
    volume: {
      ...{ id: 'a'.repeat(32), name: 'v', headerVersion: 0, createdMs: 1, sizeBytes: 64 * SLOT },
      ...{ layout: 'mirror', copies: 2, segmentBytes: SLOT, deleted: false },
    },
    ...{ group: 0, groups: 1, mapVersion, generation: 1, holder: CLIENT, lease: 'exclusive' },
    members: ids.map((number, at) => ({ ...member, place: at, deviceId: deviceIdOf(number) })),
  };
}

check('a map that has the version of another is told that one, and nothing is opened under it', async () => {
  const nodes = await serving(6);
  const stranger = await Stranger.connect(nodes);
  assert.is(await stranger.greet(1), 0);
  const [known, other] = [mapWith(1, 3), mapWith(0, 3)];
  assert.is(await stranger.askOf(KIND_STORE_MAP, known, 1, encodeMaps([known])), STATUS_OK);
  assert.is(await stranger.askOf(KIND_OPEN, other, 0, stranger.opening(other, 'writer')), STATUS_STALE_MAP);
  assert.is(await stranger.askOf(KIND_STORE_MAP, other, 0, encodeMaps([other])), STATUS_STALE_MAP);
  assert.is(await stranger.askOf(KIND_STORE_MAP, known, 1, encodeMaps([known])), STATUS_OK, 'the same comes again');
  assert.is(await stranger.askOf(KIND_OPEN, known, 1, stranger.opening(known, 'writer')), STATUS_OK);
});

check('a map that no device could store ends the connection, and nothing else', async () => {
  const good = mapWith(1, 1);
  const { volume } = good;
  for (const wrong of [
    { ...good, mapVersion: 0 },
    { ...good, volume: { ...volume, sizeBytes: 4097 } },
    { ...good, volume: { ...volume, sizeBytes: 0 } },
    { ...good, volume: { ...volume, segmentBytes: 0 } },
    { ...good, volume: { ...volume, segmentBytes: 5000 } },
    { ...good, volume: { ...volume, layout: 'single' as const } },
    { ...good, generation: 2 ** 24 },
  ]) {
    const nodes = await serving(10);
    const stranger = await Stranger.connect(nodes);
    assert.is(await stranger.greet(1), 0);
    const status = await stranger.askOf(KIND_STORE_MAP, { ...wrong, mapVersion: 1 }, 1, encodeMaps([wrong]));
    const known = nodes.serving.host.stores.get(deviceIdOf(1))?.replicasOf(volume.id);
    assert.equal([status, known], [STATUS_BAD_FRAME, []], JSON.stringify(wrong));
  }
});

check('nothing is written to a volume that is deleted, whoever holds it', async () => {
  const nodes = await serving(13);
  const stranger = await Stranger.connect(nodes);
  assert.is(await stranger.greet(1), 0);
  const map = mapWith(1, 1);
  assert.is(await stranger.askOf(KIND_STORE_MAP, map, 1, encodeMaps([map])), STATUS_OK);
  assert.is(await stranger.askOf(KIND_OPEN, map, 1, stranger.opening(map, 'writer')), STATUS_OK);
  const allocate = KIND_REQUEST + REQUEST_ALLOCATE;
  assert.is(await stranger.askOf(allocate, map, 1, new Uint8Array(0)), STATUS_OK);
  const note = { ...map, mapVersion: 2, volume: { ...map.volume, deleted: true } };
  assert.is(await stranger.askOf(KIND_STORE_MAP, note, 1, encodeMaps([note])), STATUS_OK);
  assert.is(await stranger.askOf(allocate, note, 1, new Uint8Array(0)), STATUS_STALE_MAP);
  assert.is(await stranger.askOf(KIND_OPEN, note, 1, stranger.opening(note, 'writer')), STATUS_NOT_OPEN);
  assert.is(await stranger.askOf(KIND_OPEN, note, 1, stranger.opening(note, 'reader')), STATUS_OK);
});

check('a map with chunks of another size than the device has is refused', async () => {
  const nodes = await serving(11);
  const stranger = await Stranger.connect(nodes);
  assert.is(await stranger.greet(1), 0);
  const good = mapWith(1, 1);
  const wrong = { ...good, volume: { ...good.volume, segmentBytes: 2 * SLOT } };
  assert.is(await stranger.askOf(KIND_STORE_MAP, wrong, 1, encodeMaps([wrong])), EINVAL);
  assert.is(await stranger.askOf(KIND_STORE_MAP, good, 1, encodeMaps([good])), STATUS_OK);
});

check('an answer that has arrived gives its credit back, though others of its send have not', async () => {
  // The network holds less than what leaves in one send.
  const nodes = new TwoNodes(8, 0, { windowBytes: 16 << 10 });
  await nodes.format();
  await nodes.startServing(7, SEGMENT_SIZES);
  const stranger = await Stranger.connect(nodes, 8 << 20);
  assert.is(await stranger.greet(1), 0);
  const map = mapWith(1, 1);
  assert.is(await stranger.askOf(KIND_STORE_MAP, map, 1, encodeMaps([map])), STATUS_OK);
  assert.is(await stranger.askOf(KIND_OPEN, map, 1, stranger.opening(map, 'reader')), STATUS_OK);
  // As many as are granted, then one more for each that is answered.
  let asked = 0;
  const read = (at: number) => {
    const frame = new Frame().begin(KIND_REQUEST, 0, 100 + asked);
    frame.session = 1;
    frame.volume.set(map.volume.id);
    frame.member = 1;
    frame.mapVersion = 1;
    frame.count = 1;
    asked += 1;
    putHeader(stranger.process, at, frame, false);
  };
  for (let index = 0; index < 256; index += 1) read(OUT + index * HEADER_BYTES);
  await nodes.settle(stranger.peer.send([OUT, 256 * HEADER_BYTES]));
  await nodes.pause(100_000);
  for (let answered = 0; answered < 400; answered += 1) {
    const { kind, payload } = await stranger.next();
    if (kind === KIND_REFUSED) assert.unreachable(decodeControl('refused', payload).message);
    assert.is(kind, KIND_REPLY);
    read(OUT);
    await nodes.settle(stranger.peer.send([OUT, HEADER_BYTES]));
  }
});

/** Asks for something of block 0 of chunk 0 whose content is `value`; with `damaged`, that is another one than its sum says. */
async function askBlock(
  stranger: Stranger,
  map: ReplicaMap,
  kind: number,
  value = 0,
  damaged = false,
): Promise<number> {
  const { process, peer } = stranger;
  const block = OUT + 4096;
  process.bytes.fill(value, block, block + 4096);
  const request = new SegmentRequest().begin(kind, 0, 0);
  const blocks = kind === REQUEST_WRITE || kind === REQUEST_READ ? 1 : 0;
  Object.assign(request, { blocks, memory: block, stampLow: value, stampHigh: 256, generation: 1 });
  const address = new ReplicaAddress();
  address.volume.set(map.volume.id);
  Object.assign(address, { group: 0, member: 1, mapVersion: 1, incarnation: 0, session: stranger.session });
  encodeRequest(process, new Frame().begin(0, 0, 10 + value), OUT, request, address, block);
  if (damaged) process.bytes[block + 100] ^= 4;
  const parts: [number, number][] = [[OUT, requestHeadBytes(request)]];
  if (kind === REQUEST_WRITE) parts.push([block, 4096]);
  for (const part of parts) await stranger.settle(peer.send(part));
  const { kind: answered, payload, at } = await stranger.next();
  if (answered === KIND_REFUSED) return decodeControl('refused', payload).status;
  const answer = new Answer();
  if (answered === KIND_REPLIES) getPacked(process.view, packedAt(at, 0), answer);
  // A block that was read follows its sum.
  else return payload[4 + 100];
  return answer.status;
}

check(
  'a block that has another sum than it came with ends the connection, and the device keeps what it had',
  async () => {
    const nodes = await serving(12);
    const map = mapWith(1, 1);
    const opened = async (session: number) => {
      const stranger = await Stranger.connect(nodes);
      assert.is(await stranger.greet(session), 0);
      assert.is(await stranger.askOf(KIND_STORE_MAP, map, 1, encodeMaps([map])), STATUS_OK);
      assert.is(await stranger.askOf(KIND_OPEN, map, 1, stranger.opening(map, 'writer')), STATUS_OK);
      return stranger;
    };
    const stranger = await opened(1);
    assert.is(await askBlock(stranger, map, REQUEST_ALLOCATE), STATUS_OK);
    assert.is(await askBlock(stranger, map, REQUEST_WRITE, 5), STATUS_OK);
    assert.is(await askBlock(stranger, map, REQUEST_READ), 5);
    assert.is(await askBlock(stranger, map, REQUEST_WRITE, 7, true), STATUS_BAD_SUM);
    await nodes.pause(100_000);
    assert.equal(nodes.serving.service.usage(), { connections: 0, requests: 0, buffers: 0 });
    const again = await opened(2);
    assert.is(await askBlock(again, map, REQUEST_READ), 5);
    assert.is(await askBlock(again, map, REQUEST_WRITE, 7), STATUS_OK);
    assert.is(await askBlock(again, map, REQUEST_READ), 7);
  },
);

check('a newer session takes the place of an older one, and an older one that of none', async () => {
  const nodes = await serving(5);
  const [first, second, third] = [
    await Stranger.connect(nodes),
    await Stranger.connect(nodes),
    await Stranger.connect(nodes),
  ];
  assert.is(await first.greet(4), 0);
  assert.is(await second.greet(5), 0);
  assert.is(await third.greet(4), STATUS_REPLACED);
  await nodes.pause(100_000);
  assert.is(nodes.serving.service.usage().connections, 1);
  let ended = false;
  await first.next().catch(() => {
    ended = true;
  });
  assert.ok(ended, 'the older session has ended');
});

/** A node that says what it wants, and a session with it. */
class StrangeNode {
  readonly nodes: TwoNodes;
  readonly process: SimProcess;
  readonly session: NodeSession;
  readonly peer: WirePeer;
  private reason = '';

  private constructor(nodes: TwoNodes, process: SimProcess, peer: WirePeer, session: NodeSession) {
    this.nodes = nodes;
    this.process = process;
    this.peer = peer;
    this.session = session;
  }

  /** Welcomes a session with these credits. */
  static async welcome(seed: number, creditBytes = 2 << 20): Promise<StrangeNode> {
    const nodes = new TwoNodes(seed);
    await nodes.format();
    const process = nodes.servingHost.start({ seed: nodes.nextSeed(), arena: new Uint8Array(ARENA) });
    const transport = new SimTransport(process, {}, nodes.network);
    const operations = new Operations({ completions: process, memory: process, transport });
    const listener = transport.listen(ADDRESS.path);
    const accepted = operations.result((token) => transport.accept(listener, token));
    nodes.startSessions();
    const onFailed = (text: string) => {
      strange.reason = text;
    };
    const session = new NodeSession(nodes.sessions, ADDRESS, { onDevices: () => {}, onFailed, onMaps: () => {} });
    const peer = new WirePeer(operations, await nodes.settle(accepted), FROM_ASKER, AREA, ARENA - AREA);
    const strange = new StrangeNode(nodes, process, peer, session);
    const answerer = new HelloAnswerer(new SimKey(7, process.random), {
      ...{ nodeId: 'd'.repeat(32), clusterId: CLUSTER_ID, features: [] },
    });
    await nodes.settle(peer.say(OUT, KIND_CHALLENGE, answerer.challenge()));
    answerer.takeHello((await nodes.settle(peer.next())).payload);
    const terms = { creditRequests: 4, creditBytes, shards: ['x'] };
    await nodes.settle(peer.say(OUT, KIND_WELCOME, answerer.welcome(terms)));
    peer.reader.open(1);
    return strange;
  }

  /** Why it has been given up, when it has. */
  async failed(): Promise<string> {
    await this.nodes.settle(this.nodes.world.until(() => this.reason !== ''));
    return this.reason;
  }
}

check('a node that answers what was not asked, or twice, is given up', async () => {
  for (const id of [5, 1 << 16]) {
    const strange = await StrangeNode.welcome(6);
    const { nodes, process, peer } = strange;
    const { frame } = await nodes.settle(peer.next());
    assert.is(frame.kind, KIND_PING);
    const answer = new Answer();
    // The number of another request, or that of this one with another beginning.
    answer.request = id === 5 ? frame.request + 5 : frame.request + id;
    putPacked(process.view, packedAt(OUT, 0), answer);
    await nodes.settle(peer.send([OUT, encodeReplies(process, new Frame(), OUT, 1)]));
    assert.match(await strange.failed(), /was not asked|cannot be reached/);
  }
});

check('a node is asked whether it is there, though all that it has granted is in use', async () => {
  const { nodes, process, peer, session } = await StrangeNode.welcome(9);
  const ping = await nodes.settle(peer.next());
  const pong = new Frame().begin(KIND_PONG, 0, ping.frame.request);
  const payload = encodeControl('pong', { taken: 0, devices: [] });
  await nodes.settle(peer.send([OUT, encodePayload(process, pong, OUT, payload)]));
  // It does what it was asked for slowly, and one more waits for that.
  const map = mapWith(1, 1);
  for (let asked = 0; asked < 5; asked += 1) void session.open(map, 1, 'reader');
  const kinds: number[] = [];
  for (let came = 0; came < 5; came += 1) kinds.push((await nodes.settle(peer.next())).frame.kind);
  assert.equal(kinds, [KIND_OPEN, KIND_OPEN, KIND_OPEN, KIND_OPEN, KIND_PING]);
});

check('a node that opens something else than was asked for is given up', async () => {
  const right = {
    ...{ deviceId: deviceIdOf(1), segmentBytes: SLOT, incarnation: 3, servedGeneration: 0, epoch: 1, freeBytes: 0 },
    ...{ flushed: { generation: 0, flushNumber: 0 }, settled: { generation: 0, flushNumber: 0 } },
    ...{ stampMax: { low: 0, high: 0 }, taken: 1 },
  };
  for (const [wrong, reason] of [
    [{ deviceId: deviceIdOf(0) }, /it opens device 1{32} in place of member 1/],
    [{ segmentBytes: 2 * SLOT }, /with chunks of 131072 bytes/],
    [{ incarnation: 0 }, /was never opened/],
  ] as const) {
    const strange = await StrangeNode.welcome(12);
    const { nodes, process, peer, session } = strange;
    await nodes.settle(peer.next());
    void session.open(mapWith(1, 1), 1, 'writer');
    const { frame } = await nodes.settle(peer.next());
    assert.is(frame.kind, KIND_OPEN);
    const reply = new Frame().begin(KIND_REPLY, REPLY_JSON, frame.request);
    const payload = encodeControl('opened', { ...right, ...wrong });
    await nodes.settle(peer.send([OUT, encodePayload(process, reply, OUT, payload)]));
    assert.match(await strange.failed(), reason);
  }
});

check('a node that grants less than a request may need is given up, as nothing could be asked there', async () => {
  const strange = await StrangeNode.welcome(7, 1 << 20);
  assert.match(await strange.failed(), /it grants 1048576 bytes, and a request may have 1056768/);
});

run();
