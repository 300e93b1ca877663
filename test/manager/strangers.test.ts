/**
 * Ends of sessions between managers and clients that are not what they should be. A client that says anything wrong is told why,
 * and is gone; one that takes no answers, or floods, keeps nothing from others. A manager that answers what nobody has asked, or
 * garbage, is left, and asked again.
 */

import * as assert from 'uvu/assert';
import { CALLING_BYTES } from '#strake/client/manager/call-session.js';
import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import type { StrakeError } from '#strake/core/errors.js';
import { SESSION_CALLS_MAX } from '#strake/manager/limits.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import type { SimProcess } from '#strake/sim/world/process.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { decodeControl } from '#strake/wire/control.js';
import { encodePayload, Frame, putHeader } from '#strake/wire/frame.js';
import { FEATURE_MANAGER, HelloAnswerer, HelloAsker } from '#strake/wire/hello.js';
import { PART_BYTES_MAX } from '#strake/wire/limits.js';
import { encodeBody } from '#strake/wire/manager-bodies.js';
import { CALLS, DECIDED } from '#strake/wire/manager-calls.js';
import { encodeMaps } from '#strake/wire/maps.js';
import {
  AT_HEADER_SUM,
  AT_VERSION,
  CALL_NAMES,
  FROM_ANSWERER,
  FROM_ASKER,
  HEADER_BYTES,
  KIND_ALIVE,
  KIND_ANSWER,
  KIND_CALL,
  KIND_DECIDED,
  KIND_FAILURE,
  KIND_HELLO,
  KIND_HERE,
  KIND_PING,
  KIND_REFUSED,
  KIND_STORE_MAP,
  KIND_WELCOME,
  STATUS_BAD_FRAME,
  STATUS_BAD_SUM,
  STATUS_BAD_VERSION,
  STATUS_DENIED,
} from '#strake/wire/messages.js';
import {
  answering,
  CallWorld,
  KEY_SEED,
  MANAGER_ADDRESS,
  type ServingManager,
  scriptedCalls,
} from '../support/call-world.js';
import { check, run } from '../support/check.js';
import { CLUSTER_ID } from '../support/sim-store.js';
import { MAP } from '../support/wire-examples.js';
import { Operations, WirePeer } from '../support/wire-peer.js';

const ARENA = 4 << 20;
const OUT = 0;
const AREA = 1 << 20;
const CLIENT = 'a'.repeat(32);
const STATUS = { clusterId: 'c'.repeat(32), epoch: 1, sequence: 7, times: DEFAULT_TIMES, deciding: true, awaited: [] };
const kindOf = (name: (typeof CALL_NAMES)[number]) => KIND_CALL + CALL_NAMES.indexOf(name);

function message(json: string | Uint8Array, maps: Uint8Array = new Uint8Array(0)): Uint8Array {
  const text = Buffer.from(json);
  const head = Buffer.alloc(4);
  head.writeUInt32LE(text.length);
  return Buffer.concat([head, text, maps]);
}

/** One end of a connection that says what it wants. */
class Stranger {
  readonly process: SimProcess;
  readonly peer: WirePeer;
  readonly world: CallWorld;

  constructor(world: CallWorld, process: SimProcess, peer: WirePeer) {
    this.world = world;
    this.process = process;
    this.peer = peer;
  }

  /** A client that has shaken hands. */
  static async connect(world: CallWorld, session = 1, clientId = CLIENT): Promise<Stranger> {
    const { process, transport } = world.startClient(ARENA);
    const operations = new Operations({ completions: process, memory: process, transport });
    const file = await world.settle(operations.result((token) => transport.connect(MANAGER_ADDRESS, token)));
    const stranger = new Stranger(world, process, new WirePeer(operations, file, FROM_ANSWERER, AREA, ARENA - AREA));
    const key = new SimKey(KEY_SEED, process.random);
    const about = { clientId, clusterId: CLUSTER_ID, session, principal: 'x', features: [FEATURE_MANAGER] };
    const asker = new HelloAsker(key, about);
    const { hello } = asker.takeChallenge((await stranger.next()).payload);
    await world.settle(stranger.peer.say(OUT, KIND_HELLO, hello));
    const { kind, payload } = await stranger.next();
    assert.is(kind, KIND_WELCOME);
    asker.takeWelcome(payload);
    stranger.peer.reader.open(1);
    return stranger;
  }

  async next(): Promise<{ readonly kind: number; readonly frame: Frame; readonly payload: Uint8Array }> {
    const { frame, payload } = await this.world.settle(this.peer.next());
    return { kind: frame.kind, frame, payload };
  }

  /** Writes a frame, which may be changed before it is summed. Returns its length. */
  write(at: number, kind: number, payload: Uint8Array, change: (frame: Frame) => void = () => {}): number {
    const frame = new Frame().begin(kind, 0, 1);
    frame.session = 1;
    frame.count = payload.length === 0 ? 0 : 1;
    change(frame);
    if (payload.length > 0) return encodePayload(this.process, frame, at, payload);
    putHeader(this.process, at, frame, false);
    return HEADER_BYTES;
  }

  send(bytes: number): Promise<void> {
    return this.world.settle(this.peer.send([OUT, bytes]));
  }

  say(kind: number, payload: Uint8Array, change?: (frame: Frame) => void): Promise<void> {
    return this.send(this.write(OUT, kind, payload, change));
  }

  /** Status and words with which it is told to go. */
  async refusal(): Promise<{ readonly status: number; readonly message: string }> {
    for (;;) {
      const { kind, payload } = await this.next();
      if (kind === KIND_REFUSED) return decodeControl('refused', payload);
    }
  }
}

async function gone(world: CallWorld, { service }: ServingManager): Promise<void> {
  await world.pause(1_000_000);
  assert.equal(service.usage(), { connections: 0, buffers: 0 });
}

type Attack = readonly [string, number, RegExp, (stranger: Stranger) => Promise<void>];
const fetchCall = kindOf('fetch');
const ask =
  (text: string | Uint8Array, name: (typeof CALL_NAMES)[number] = 'fetch', maps?: Uint8Array) =>
  (one: Stranger) =>
    one.say(kindOf(name), message(text, maps));

const ATTACKS: readonly Attack[] = [
  [
    'a kind that nodes take',
    STATUS_BAD_FRAME,
    /managers take no frames of kind 18/,
    (one) =>
      one.say(KIND_STORE_MAP, encodeMaps([MAP]), (f) => {
        f.count = 0;
      }),
  ],
  [
    'a ping of nodes',
    STATUS_BAD_FRAME,
    /kind 5 \(PING\)/,
    (one) =>
      one.say(KIND_PING, Buffer.from('{}'), (f) => {
        f.count = 0;
      }),
  ],
  [
    'an answer in place of a call',
    STATUS_BAD_FRAME,
    /ANSWER comes from the wrong end/,
    (one) => one.say(KIND_ANSWER, message('{}')),
  ],
  ['a kind that there is not', STATUS_BAD_FRAME, /kind 95/, (one) => one.say(95, message('{}'))],
  [
    'another session',
    STATUS_BAD_FRAME,
    /a frame of session 2/,
    (one) =>
      one.say(fetchCall, message('{}'), (f) => {
        f.session = 2;
      }),
  ],
  ['no JSON', STATUS_BAD_FRAME, /fetch: 3 bytes are no JSON/, ask('{]}')],
  ['bytes that are no text', STATUS_BAD_FRAME, /2 bytes are no JSON/, ask(Uint8Array.of(0xff, 0xfe))],
  [
    'JSON that is cut off',
    STATUS_BAD_FRAME,
    /no room for their JSON/,
    (one) => one.say(fetchCall, message('{}').subarray(0, 5)),
  ],
  ['less than a length', STATUS_BAD_FRAME, /no room for their JSON/, (one) => one.say(fetchCall, Uint8Array.of(1))],
  [
    'a length beyond the end',
    STATUS_BAD_FRAME,
    /no room for their JSON/,
    (one) => one.say(fetchCall, Uint8Array.of(255, 255, 255, 255, 0)),
  ],
  ['another type', STATUS_BAD_FRAME, /has to be an object, not a list/, ask('[]')],
  ['a key that is not known', STATUS_BAD_FRAME, /unknown key/, ask('{"volume":"v","more":1}')],
  ['a key of all objects', STATUS_BAD_FRAME, /unknown key/, ask('{"volume":"v","__proto__":{"x":1}}')],
  ['a constructor', STATUS_BAD_FRAME, /unknown key/, ask('{"volume":"v","constructor":{"prototype":{}}}')],
  ['a missing key', STATUS_BAD_FRAME, /volume has to be text/, ask('{}')],
  [
    '2^53 + 1',
    STATUS_BAD_FRAME,
    /sizeBytes has to be a whole number/,
    ask('{"volume":"v","sizeBytes":9007199254740993}', 'grow'),
  ],
  ['a number that is none', STATUS_BAD_FRAME, /sizeBytes has to be/, ask('{"volume":"v","sizeBytes":1e999}', 'grow')],
  [
    'deep JSON',
    STATUS_BAD_FRAME,
    /volume has to be text/,
    ask(`{"volume":${'['.repeat(15_000)}${']'.repeat(15_000)}}`),
  ],
  ['a giant text', STATUS_BAD_FRAME, /volume has to be text/, ask(`{"volume":"${'v'.repeat(30_000)}"}`)],
  [
    'a list that is too long',
    STATUS_BAD_FRAME,
    /a list of 0 to 256/,
    ask(`{"volume":"v","deviceIds":[${'0,'.repeat(256)}0]}`, 'startWithout'),
  ],
  [
    'maps where none may be',
    STATUS_DENIED,
    /is not proven by the key/,
    ask('{"volume":"v"}', 'fetch', encodeMaps([{ ...MAP }])),
  ],
  [
    'a map that is cut off',
    STATUS_BAD_FRAME,
    /the last map is cut off/,
    ask('{}', 'adopt', encodeMaps([MAP]).subarray(0, 600)),
  ],
  [
    'a map that claims to be decided',
    STATUS_DENIED,
    /is managed, and there is no key/,
    ask('{}', 'adopt', encodeMaps([{ ...MAP, authentication: 'f'.repeat(32) }])),
  ],
  [
    'a call for another client',
    STATUS_DENIED,
    /renew: it is for client b+, and a+ asks/,
    ask(`{"clientId":"${'b'.repeat(32)}","holds":[]}`, 'renew'),
  ],
  [
    'a part without those before',
    STATUS_BAD_FRAME,
    /FETCH: part 1 of 2, with 6 bytes, comes after 0/,
    (one) =>
      one.say(fetchCall, message('{}'), (f) => {
        f.count = 2;
        f.chunk = 1;
      }),
  ],
  [
    'a short part amid others',
    STATUS_BAD_FRAME,
    /FETCH: part 0 of 2, with 6 bytes/,
    (one) =>
      one.say(fetchCall, message('{}'), (f) => {
        f.count = 2;
      }),
  ],
  [
    'no parts',
    STATUS_BAD_FRAME,
    /it counts 0, where 1 to 128 may be/,
    (one) =>
      one.say(fetchCall, message('{}'), (f) => {
        f.count = 0;
      }),
  ],
  [
    'too many parts',
    STATUS_BAD_FRAME,
    /it counts 129/,
    (one) =>
      one.say(fetchCall, message('{}'), (f) => {
        f.count = 129;
      }),
  ],
  [
    'a part that is too long',
    STATUS_BAD_FRAME,
    /32769 bytes follow, where 1 to 32768 may/,
    (one) => one.say(fetchCall, new Uint8Array(PART_BYTES_MAX + 1)),
  ],
  [
    'a part beyond the last',
    STATUS_BAD_FRAME,
    /part 7 of 1/,
    (one) =>
      one.say(fetchCall, message('{}'), (f) => {
        f.chunk = 7;
      }),
  ],
];

check('what is no call is refused in words, and nothing of it is left', async () => {
  for (const [what, status, words, attack] of ATTACKS) {
    const world = new CallWorld(1);
    const { calls, asked } = answering({});
    const serving = world.serve(calls);
    const stranger = await Stranger.connect(world);
    await attack(stranger);
    const refused = await stranger.refusal();
    assert.is(refused.status, status, `${what}: ${refused.message}`);
    assert.match(refused.message, words, what);
    assert.equal(asked, [], what);
    await gone(world, serving);
  }
  assert.is(({} as { x?: number }).x, undefined);
});

check('parts of different calls, kinds or lengths do not make one', async () => {
  const changes: readonly ((frame: Frame) => void)[] = [
    (frame) => {
      frame.request = 2;
    },
    (frame) => {
      frame.kind = kindOf('delete');
    },
    (frame) => {
      frame.count = 3;
    },
    (frame) => {
      frame.chunk = 0;
    },
    (frame) => {
      frame.chunk = 2;
    },
  ];
  for (const change of changes) {
    const world = new CallWorld(2);
    const { calls, asked } = answering({});
    const serving = world.serve(calls);
    const stranger = await Stranger.connect(world);
    const full = new Uint8Array(PART_BYTES_MAX);
    await stranger.say(fetchCall, full, (frame) => {
      frame.count = 3;
    });
    await stranger.say(fetchCall, full, (frame) => {
      frame.count = 3;
      frame.chunk = 1;
      change(frame);
      if (change === changes[2]) frame.count = 4;
    });
    const { message: words } = await stranger.refusal();
    assert.match(words, /comes after 1/);
    assert.equal(asked, []);
    await gone(world, serving);
  }
});

check('a call that comes twice is carried out once', async () => {
  for (const second of [5, 4]) {
    const world = new CallWorld(3);
    const { calls, asked } = answering({ delete: () => undefined });
    const serving = world.serve(calls);
    const stranger = await Stranger.connect(world);
    const bytes = encodeBody(CALLS.delete.request, { volume: 'v' });
    await stranger.say(kindOf('delete'), bytes, (frame) => {
      frame.request = 5;
    });
    assert.is((await stranger.next()).kind, KIND_ANSWER);
    await stranger.say(kindOf('delete'), bytes, (frame) => {
      frame.request = second;
    });
    assert.match((await stranger.refusal()).message, /comes after call 5, and each has a higher number/);
    assert.is(asked.length, 1);
    await gone(world, serving);
  }
});

check('flipped bytes, and frames of another version, end the connection', async () => {
  const flips: readonly (readonly [number, number, boolean])[] = [
    [HEADER_BYTES + 5, STATUS_BAD_SUM, false],
    [AT_VERSION, STATUS_BAD_VERSION, true],
  ];
  for (const [at, status, summed] of flips) {
    const world = new CallWorld(4);
    const serving = world.serve(answering({}).calls);
    const stranger = await Stranger.connect(world);
    const bytes = stranger.write(OUT, fetchCall, encodeBody(CALLS.fetch.request, { volume: 'v' }));
    const { process } = stranger;
    process.bytes[OUT + at] ^= 2;
    if (summed) {
      process.view.setUint32(OUT + AT_HEADER_SUM, 0, true);
      process.view.setUint32(OUT + AT_HEADER_SUM, process.checksum(OUT, HEADER_BYTES), true);
    }
    await stranger.send(bytes);
    assert.is((await stranger.refusal()).status, status);
    await gone(world, serving);
  }
  const world = new CallWorld(4);
  const serving = world.serve(answering({}).calls);
  const stranger = await Stranger.connect(world);
  stranger.process.bytes.fill(0x47, OUT, OUT + 300);
  await stranger.send(300);
  assert.match((await stranger.refusal()).message, /begins with 0x47474747/);
  await gone(world, serving);
});

check('who asks for more than was granted is cut off', async () => {
  const world = new CallWorld(5);
  const serving = world.serve(scriptedCalls(async () => STATUS));
  const stranger = await Stranger.connect(world);
  // One call in parts that takes all the credit there is, and parts of another behind it.
  const full = new Uint8Array(PART_BYTES_MAX);
  let status = 0;
  for (let sent = 0; status === 0 && sent < 300; sent += 1) {
    const length = stranger.write(OUT, fetchCall, full, (frame) => {
      frame.count = 128;
      frame.chunk = sent % 128;
      frame.request = 1 + Math.floor(sent / 128);
    });
    await stranger.send(length);
    if (sent === 127) status = (await stranger.refusal()).status;
  }
  // The call was whole before the credit was used up, and is no JSON.
  assert.is(status, STATUS_BAD_FRAME);
  await gone(world, serving);
});

check('who asks for more calls than are carried out at a time is not read, and others are served', async () => {
  const world = new CallWorld(6);
  let begun = 0;
  const serving = world.serve(
    scriptedCalls(() => {
      begun += 1;
      return world.pauseOnly(2_000_000).then(() => STATUS);
    }),
  );
  const stranger = await Stranger.connect(world);
  let length = 0;
  for (let id = 1; id <= 500; id += 1) {
    length += stranger.write(OUT + length, kindOf('status'), message('{}'), (frame) => {
      frame.request = id;
    });
  }
  const sending = stranger.peer.send([OUT, length]).catch(() => {});
  await world.pause(1_000_000);
  assert.is(begun, SESSION_CALLS_MAX);
  // Others are served meanwhile.
  const session = world.connect();
  await world.settle(session.status());
  session.close();
  await world.settle(sending);
  await world.pause(100_000);
  assert.is(serving.service.usage().connections, 1);
});

check('who takes no answers is not read, and keeps nothing from others', async () => {
  const world = new CallWorld(7);
  const event = { number: 1, timeMs: 2, kind: 'x', text: 'y'.repeat(500) };
  let answered = 0;
  const serving = world.serve(
    scriptedCalls(async (name) => {
      if (name === 'status') return STATUS;
      answered += 1;
      return Array.from({ length: 1000 }, () => event);
    }),
  );
  const stranger = await Stranger.connect(world);
  let length = 0;
  const bytes = encodeBody(CALLS.events.request, { after: 0 });
  for (let id = 1; id <= 100; id += 1) {
    length += stranger.write(OUT + length, kindOf('events'), bytes, (frame) => {
      frame.request = id;
    });
  }
  await world.settle(stranger.peer.send([OUT, length]));
  for (let id = 0; id < 50; id += 1) await stranger.say(KIND_ALIVE, new Uint8Array(0));
  await world.pause(3_000_000);
  assert.ok(answered < 2 * SESSION_CALLS_MAX, `${answered} calls are answered to nobody`);
  const session = world.connect();
  for (let count = 0; count < 20; count += 1) await world.settle(session.status());
  assert.is((await world.settle(session.events(0))).length, 1000);
  session.close();
  await world.pause(40_000_000);
  assert.equal(serving.service.usage(), { connections: 0, buffers: 0 });
});

check('questions whether it is there are answered with one answer at a time', async () => {
  const world = new CallWorld(8);
  world.serve(answering({}).calls);
  const stranger = await Stranger.connect(world);
  let length = 0;
  for (let id = 1; id <= 1000; id += 1) {
    length += stranger.write(OUT + length, KIND_ALIVE, new Uint8Array(0), (frame) => {
      frame.request = id;
    });
  }
  await world.settle(stranger.peer.send([OUT, length]));
  let last = 0;
  let answers = 0;
  while (last < 1000) {
    const { kind, frame } = await stranger.next();
    assert.is(kind, KIND_HERE);
    assert.ok(frame.request > last);
    last = frame.request;
    answers += 1;
  }
  assert.ok(answers <= 1000);
});

check('connections that say nothing give way to others, and end', async () => {
  const world = new CallWorld(9);
  const serving = world.serve(answering({ status: () => STATUS }).calls);
  const { process, transport } = world.startClient(ARENA);
  const operations = new Operations({ completions: process, memory: process, transport });
  for (let count = 0; count < 30; count += 1) {
    await world.settle(operations.result((token) => transport.connect(MANAGER_ADDRESS, token)));
  }
  await world.pause(100_000);
  assert.ok(serving.service.usage().connections <= 4);
  const session = world.connect();
  assert.equal(await world.settle(session.status()), STATUS);
  session.close();
  await world.pause(15_000_000);
  assert.equal(serving.service.usage(), { connections: 0, buffers: 0 });
});

check('a session whose client is there stays, and one whose client has vanished ends', async () => {
  const world = new CallWorld(17);
  const serving = world.serve(answering({ status: () => STATUS }).calls);
  const session = world.connect();
  const stranger = await Stranger.connect(world);
  await world.pause(100_000);
  assert.is(serving.service.usage().connections, 2);
  await world.pause(60_000_000);
  assert.is(serving.service.usage().connections, 1);
  assert.equal(await world.settle(session.status()), STATUS);
  assert.is(world.states.length, 1);
  await assertEnds(stranger);
});

check('a newer session of a client takes the place of an older one', async () => {
  const world = new CallWorld(10);
  const serving = world.serve(answering({ status: () => STATUS }).calls);
  const first = await Stranger.connect(world, 5);
  const second = await Stranger.connect(world, 6);
  await second.say(kindOf('status'), message('{}'), (frame) => {
    frame.session = 6;
  });
  assert.is((await second.next()).kind, KIND_ANSWER);
  await assertEnds(first);
  assert.is(serving.service.usage().connections, 1);
});

async function assertEnds(stranger: Stranger): Promise<void> {
  const ended = await stranger.next().then(
    () => false,
    () => true,
  );
  assert.ok(ended, 'the connection has ended');
}

// ---------------------------------------------------------------- managers that are none

/** A manager that shakes hands and then says what it wants. */
class FalseManager {
  readonly world: CallWorld;
  readonly process: SimProcess;
  private readonly operations: Operations;
  private readonly listener: number;

  constructor(world: CallWorld) {
    this.world = world;
    this.process = world.managerHost.start({ seed: world.nextSeed(), arena: new Uint8Array(ARENA) });
    const { process } = this;
    const transport = new SimTransport(process, {}, world.network);
    this.operations = new Operations({ completions: process, memory: process, transport });
    this.listener = transport.listen(MANAGER_ADDRESS.path);
  }

  async accept(features: readonly string[] = [FEATURE_MANAGER], credits = 256): Promise<Stranger> {
    const { world, process, operations, listener } = this;
    const file = await world.settle(operations.result((token) => operations.ports.transport.accept(listener, token)));
    const stranger = new Stranger(world, process, new WirePeer(operations, file, FROM_ASKER, AREA, ARENA - AREA));
    const key = new SimKey(KEY_SEED, process.random);
    const answerer = new HelloAnswerer(key, { nodeId: 'd'.repeat(32), clusterId: CLUSTER_ID, features });
    await world.settle(stranger.peer.say(OUT, 1, answerer.challenge()));
    answerer.takeHello((await stranger.next()).payload);
    const terms = { creditRequests: credits, creditBytes: 1 << 22, shards: ['x'] };
    await world.settle(stranger.peer.say(OUT, KIND_WELCOME, answerer.welcome(terms)));
    stranger.peer.reader.open(1);
    return stranger;
  }
}

type Wrong = readonly [string, RegExp, (stranger: Stranger, id: number) => Promise<void>];
const answer = encodeBody(CALLS.status.answer, STATUS);

const WRONG_ANSWERS: readonly Wrong[] = [
  [
    'another call',
    /it answers call 77, which was not asked/,
    (one) =>
      one.say(KIND_ANSWER, answer, (f) => {
        f.request = 77;
      }),
  ],
  [
    'garbage',
    /status: 3 bytes are no JSON/,
    (one, id) =>
      one.say(KIND_ANSWER, message('{]}'), (f) => {
        f.request = id;
      }),
  ],
  [
    'the answer to another call',
    /status: unknown key "base"/,
    (one, id) =>
      one.say(KIND_ANSWER, message('{"base":1}'), (f) => {
        f.request = id;
      }),
  ],
  [
    'an error that is none',
    /failure: 3 bytes are no JSON/,
    (one, id) =>
      one.say(KIND_FAILURE, Buffer.from('{]}'), (f) => {
        f.request = id;
      }),
  ],
  [
    'that it is here, unasked',
    /it says that it is here, and was not asked/,
    (one) =>
      one.say(KIND_HERE, new Uint8Array(0), (f) => {
        f.request = 4000;
      }),
  ],
  [
    'maps that nobody has proven',
    /is not proven by the key/,
    (one) => one.say(KIND_DECIDED, encodeBody(DECIDED, { maps: [{ ...MAP, authentication: 'f'.repeat(32) }] })),
  ],
  ['a call', /STATUS comes from the wrong end/, (one) => one.say(kindOf('status'), message('{}'))],
  [
    'parts of two answers',
    /part 1 of 2, with 6 bytes, comes after 1/,
    async (one, id) => {
      await one.say(KIND_ANSWER, new Uint8Array(PART_BYTES_MAX), (f) => {
        f.request = id;
        f.count = 2;
      });
      await one
        .say(KIND_FAILURE, message('{}'), (f) => {
          f.request = id;
          f.count = 1;
          f.chunk = 0;
        })
        .catch(() => {});
    },
  ],
];

check(
  'a manager that answers what nobody has asked, or garbage, is told why, and the call is asked again',
  async () => {
    for (const [what, words, attack] of WRONG_ANSWERS) {
      const world = new CallWorld(11);
      const manager = new FalseManager(world);
      const session = world.connect();
      const asked = session.status();
      const one = await manager.accept();
      const { frame } = await one.next();
      assert.is(frame.kind, kindOf('status'), what);
      await attack(one, frame.request);
      const { message: told } = await one.refusal();
      if (what === 'parts of two answers') assert.match(told, /comes after 1/, what);
      else assert.match(told, words, what);
      const two = await manager.accept();
      const again = await two.next();
      assert.is(again.frame.kind, kindOf('status'), what);
      await two.say(KIND_ANSWER, answer, (f) => {
        f.request = again.frame.request;
      });
      assert.equal(await world.settle(asked), STATUS, what);
      session.close();
      await world.pause(2_000_000);
    }
  },
);

check('an error that is not known here is told as one', async () => {
  const world = new CallWorld(12);
  const manager = new FalseManager(world);
  const asked = world
    .connect()
    .status()
    .catch((error: StrakeError) => error);
  const one = await manager.accept();
  const { frame } = await one.next();
  const json = JSON.stringify({ name: 'toString', message: 'from tomorrow', remedy: 'wait' });
  await one.say(KIND_FAILURE, Buffer.from(json), (f) => {
    f.request = frame.request;
  });
  const { code, message: words } = (await world.settle(asked)) as StrakeError;
  assert.is(code, 'ERR_STRAKE_NOT_SUPPORTED');
  assert.match(words, /from tomorrow \(ERR_STRAKE_toString/);
});

check('a manager that answers a call twice is left', async () => {
  const world = new CallWorld(13);
  const manager = new FalseManager(world);
  const asked = world.connect().status();
  const one = await manager.accept();
  const { frame } = await one.next();
  const reply = (f: Frame) => {
    f.request = frame.request;
  };
  await one.say(KIND_ANSWER, answer, reply);
  assert.equal(await world.settle(asked), STATUS);
  await one.say(KIND_ANSWER, answer, reply);
  assert.match((await one.refusal()).message, /was not asked or has been answered/);
});

check('a manager that grants little is asked for little at a time', async () => {
  const world = new CallWorld(14);
  const manager = new FalseManager(world);
  const session = world.connect();
  const asked = Promise.all([session.status(), session.status(), session.status()]);
  const one = await manager.accept([FEATURE_MANAGER], 1);
  for (let count = 0; count < 3; count += 1) {
    const { frame } = await one.next();
    const id = frame.request;
    await world.pause(200_000);
    await one.say(KIND_ANSWER, answer, (f) => {
      f.request = id;
    });
  }
  assert.equal(await world.settle(asked), [STATUS, STATUS, STATUS]);
});

check('a node in place of a manager is told apart at once', async () => {
  const world = new CallWorld(15);
  const manager = new FalseManager(world);
  const asked = world
    .connect()
    .status()
    .catch(({ message: words }: StrakeError) => words);
  await manager.accept([]);
  assert.match(String(await world.settle(asked)), /it is a node, and no manager/);
});

check('a manager that shakes no hands is given up after a while', async () => {
  const world = new CallWorld(16);
  const manager = new FalseManager(world);
  world.connect();
  await world.pause(20_000_000);
  assert.match(world.states.map(({ reason }) => reason).join(), /it does not shake hands/);
  assert.ok(manager.process.alive, 'it is there all the time');
  assert.ok(CALLING_BYTES < 1 << 20, 'a session needs little memory');
});

run();
