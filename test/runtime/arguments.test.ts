/**
 * Every argument of everything that is public, with every kind of wrong value: refused by name, and nothing is done.
 *
 * What is public is found by looking at what the package exports; a function or method that the table below does not know
 * fails this test. Left out is only what its declaration calls private, protected or internal.
 */

import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { shown } from '#strake/core/arguments.js';
import { connect, formatDevice, initCluster, openDevice, openManager, openNode, StrakeError } from '#strake/index.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { ID, ODD, type Odd } from '../support/odd-values.js';
import { project, scratchFile, scratchFolder, socketPath } from '../support/scratch.js';

const MIB = 1 << 20;
/** An argument: its name, a value that is fine, and which odd ones are fine too. */
interface Argument {
  readonly name: string;
  readonly good: unknown;
  readonly fine: readonly Odd[];
  readonly wrong: readonly unknown[];
  /** Of an object: what it may hold. */
  readonly inside?: readonly Argument[];
}

function argument(name: string, good: unknown, fine: readonly Odd[] = [], wrong: readonly unknown[] = []): Argument {
  return { name, good, fine, wrong };
}
const mayMiss = (of: Argument): Argument => ({ ...of, fine: [...of.fine, 'undefined'] });
function object(name: string, inside: readonly Argument[], fine: readonly Odd[] = []): Argument {
  const good = Object.fromEntries(
    inside.filter((one) => !one.fine.includes('undefined')).map((one) => [one.name, one.good]),
  );
  return { name, good, fine, wrong: [], inside };
}
const options = (...inside: readonly Argument[]) => object('options', inside, ['undefined', 'emptyObject']);
const path = (good: string, name = 'path') => argument(name, good, ['digits', 'word']);
const flag = (name: string) => mayMiss(argument(name, true, ['true', 'false']));
const signal = mayMiss(
  argument('signal', new AbortController().signal, [], [{ aborted: false }, new AbortController()]),
);
const rule = { op: 'write', errno: 5 };
const wrongRules = [
  [{ op: 'writ', errno: 5 }],
  [{ op: 'write' }],
  [{ op: 'write', errno: 5, delayMs: 1 }],
  [{ op: 'write', errno: 0 }],
  [{ op: 'write', errno: 5, coutn: 1 }],
  [{ op: 'write', errno: '5' }],
  [rule, null],
];
const faults = mayMiss(argument('faults', [rule], ['emptyList'], wrongRules));

function goneBytes(): Uint8Array {
  const bytes = new Uint8Array(4096);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

/** A view of memory that was made smaller than where the view begins; undefined where memory cannot be resized. */
function cutBytes(): readonly unknown[] {
  const Resizable = ArrayBuffer as unknown as new (
    bytes: number,
    options: object,
  ) => ArrayBuffer & { resize?(n: number): void };
  const memory = new Resizable(8192, { maxByteLength: 8192 });
  if (memory.resize === undefined) return [];
  const bytes = new Uint8Array(memory, 4096, 4096);
  memory.resize(100);
  return [bytes];
}

const noBytes = [new Float64Array(512), new ArrayBuffer(8), new DataView(new ArrayBuffer(8)), new Uint8ClampedArray(8)];
const proxied = new Proxy(new Uint8Array(8), {});
const named = { length: 1, [Symbol.toStringTag]: 'Uint8Array' };
const buffer = argument(
  'buffer',
  new Uint8Array(4096).fill(1),
  ['bytes'],
  [...noBytes, proxied, named, goneBytes(), ...cutBytes()],
);
const offset = argument('offset', 0, ['zero', 'one', 'bigint'], [2 ** 53 + 2, -(2 ** 53), 2n ** 64n, Number.MIN_VALUE]);
const length = argument('length', 4096, ['zero', 'one']);
const size = (name: string) => argument(name, MIB, ['one']);
const volumeName = (name = 'nameOrId') => argument(name, 'main', ['digits', 'word']);
const newName = (name: string) =>
  argument(name, 'new', ['digits', 'word'], ['a/b', '.a', '-a', 'a b', 'ä', 'x'.repeat(256), 'F'.repeat(32)]);
const deviceId = argument('deviceId', ID, [], [ID.slice(1), `${ID}0`, ID.toUpperCase(), 'g'.repeat(32)]);
const ids = argument('without', [ID], [], [[ID, 'x'], [ID.slice(1)], { 0: ID, length: 1 }, new Set([ID])]);
const close = options(mayMiss(argument('drainMs', 0, ['zero', 'one'], [3_600_001])));
const socket = socketPath();
const where = [
  mayMiss(argument('socket', socket, ['digits', 'word'])),
  mayMiss(argument('connectionsMax', 1, ['one'], [513])),
];
const elsewhere = [
  // Together with the other kind of address these are refused, whatever they are.
  mayMiss(argument('port', 0, [], [65536, '10809'])),
  mayMiss(argument('host', '127.0.0.1', [], [7])),
];
const served = object('options', [
  { ...where[0], fine: where[0].fine.filter((odd) => odd !== 'undefined') },
  where[1],
  ...elsewhere,
]);

const file = scratchFile(MIB);
const nodeFile = scratchFile(64 * MIB);
await formatDevice(nodeFile);
const device = await openDevice(file);
const node = await openNode({ devices: [nodeFile] });
const volume = await node.createVolume({ name: 'main', sizeBytes: MIB });
const server = await node.serve({ socket: socketPath() });
const directory = mkdtempSync(join(scratchFolder(), 'manager-'));
const { keyFile } = await initCluster({ directory });
const managerSocket = socketPath();
const manager = await openManager({ directory, listen: { socket: managerSocket } });
const cluster = await connect({ manager: [{ socket: managerSocket }], keyFile });
const { serveNbd, createRing, ...others } = {
  ...(await import('#strake/index.js')),
  ...(await import('#strake/ring/spsc-ring.js')),
};
const handle = await serveNbd(device, { socket: socketPath() });
const blank = scratchFile(MIB);

const io: Readonly<Record<string, readonly Argument[]>> = {
  read: [buffer, offset, options(signal)],
  write: [buffer, offset, options(flag('fua'), signal)],
  flush: [],
  discard: [offset, length],
  writeZeroes: [offset, length, options(flag('keepAllocated'))],
};

/** Whatever can be called, on what, and with what. */
const TABLE: Readonly<
  Record<string, { readonly on?: object; readonly calls: Readonly<Record<string, readonly Argument[]>> }>
> = {
  '': {
    calls: {
      openDevice: [path(blank), options(flag('readOnly'), mayMiss(path(blank, 'confirm')), signal, faults)],
      inspectDevice: [path(blank)],
      describeDevice: [path(blank)],
      formatDevice: [
        path(blank),
        options(
          mayMiss(path(blank, 'confirm')),
          mayMiss({ ...deviceId, name: 'clusterId' }),
          mayMiss(argument('label', 'a', ['empty', 'digits', 'word'], ['x'.repeat(64), 'ä'.repeat(32)])),
          mayMiss(argument('slotBytes', 65536, [], [65537, 32768, 2 * MIB])),
          flag('dryRun'),
        ),
      ],
      openNode: [
        object('options', [
          argument(
            'devices',
            [blank],
            [],
            [blank, [blank, ''], new Array(2049).fill(blank), new Array(1), new Set([blank])],
          ),
          flag('strict'),
          flag('skipUnformatted'),
          mayMiss(argument('deviceWaitMs', 0, ['zero', 'one'], [2 ** 31])),
          mayMiss({ ...deviceId, name: 'clusterId' }),
          mayMiss(argument('without', { main: [ID] }, ['emptyObject'], [{ main: ID }, { main: ['x'] }, { '': [ID] }])),
          mayMiss(argument('onEvent', () => {}, ['function'])),
          signal,
          faults,
        ]),
      ],
      connect: [
        object('options', [
          argument('manager', [{ socket: managerSocket }], [], [[], [7], [{ sockets: 'x' }], { 0: {}, length: 1 }]),
          path(keyFile, 'keyFile'),
          flag('insecureNetwork'),
          mayMiss(argument('onEvent', () => {}, ['function'])),
          signal,
        ]),
      ],
      initCluster: [object('options', [path(blank, 'directory'), mayMiss({ ...deviceId, name: 'clusterId' })])],
      openManager: [
        object('options', [
          path(blank, 'directory'),
          object('listen', where.slice(0, 1)),
          mayMiss(path(keyFile, 'keyFile')),
          flag('insecureNetwork'),
          mayMiss(argument('onStepDown', () => {}, ['function'])),
        ]),
      ],
      serveNbd: [
        argument('device', device, [], [node, volume]),
        object('options', [
          ...(served.inside as readonly Argument[]),
          mayMiss(argument('name', 'a', ['empty', 'digits', 'word'], ['x'.repeat(1025)])),
          mayMiss(argument('description', 'a', ['empty', 'digits', 'word'], ['x'.repeat(1025)])),
          flag('readOnly'),
        ]),
      ],
      support: [],
      createRing: [argument('entries', 2, [], [3, 2 ** 21, 2n])],
    },
  },
  Device: {
    on: device,
    calls: {
      ...io,
      stats: [],
      load: [
        object('message', [
          argument('pattern', 'read', [], ['READ']),
          argument('blockBytes', 4096, ['one'], [2 * MIB]),
          argument('depth', 1, ['one'], [1e6]),
          argument('milliseconds', 1, ['zero', 'one', 'fraction']),
          argument('seed', 1, ['zero', 'one'], [2 ** 32]),
        ]),
      ],
      close: [],
      [Symbol.asyncDispose.toString()]: [],
    },
  },
  NodeVolume: { on: volume, calls: io },
  Node: {
    on: node,
    calls: {
      status: [],
      devices: [],
      volumes: [],
      createVolume: [
        object('options', [
          newName('name'),
          size('sizeBytes'),
          mayMiss(argument('layout', 'mirror', [], ['raid', 'Mirror'])),
          mayMiss(argument('copies', 2, ['one'], [4, '2'])),
        ]),
      ],
      volume: [volumeName()],
      startVolume: [volumeName(), object('options', [ids])],
      growVolume: [volumeName(), size('sizeBytes')],
      renameVolume: [volumeName(), newName('newName')],
      deleteVolume: [volumeName()],
      adoptVolumes: [],
      takeBackVolumes: [],
      addDevice: [path(blank)],
      replaceDevice: [deviceId, path(blank)],
      removeDevice: [deviceId],
      findDevice: [path('main', 'name'), mayMiss(path(blank))],
      forgetDevice: [deviceId],
      scrub: [volumeName(), options(mayMiss(size('bytesPerSecond')))],
      jobs: [],
      cancelJob: [argument('id', 1, ['one'])],
      serve: [served],
      close: [],
      [Symbol.asyncDispose.toString()]: [],
    },
  },
  Cluster: {
    on: cluster,
    calls: {
      status: [],
      setTimes: [
        object('times', [mayMiss(argument('pingMs', 500, [], [9, 3_600_001])), mayMiss(argument('leaseMs', 2000))]),
      ],
      nodes: [],
      devices: [],
      volumes: [],
      events: [mayMiss(argument('after', 0, ['zero', 'one']))],
      createVolume: [
        object('options', [
          newName('name'),
          size('sizeBytes'),
          mayMiss(argument('layout', 'mirror', [], ['raid', 'Mirror'])),
          mayMiss(argument('copies', 2, ['one'], [4, '2'])),
          mayMiss(argument('on', ['n1'], ['emptyList'], [[''], [7], 'n1', new Set(['n1'])])),
        ]),
      ],
      startVolume: [volumeName(), object('options', [ids])],
      growVolume: [volumeName(), size('sizeBytes')],
      renameVolume: [volumeName(), newName('newName')],
      deleteVolume: [volumeName()],
      openVolume: [volumeName(), options(flag('takeOver'))],
      closeVolume: [argument('volume', volume, [], [node, device])],
      serve: [served],
      close: [],
      [Symbol.asyncDispose.toString()]: [],
    },
  },
  ClusterManager: { on: manager, calls: { close: [], [Symbol.asyncDispose.toString()]: [] } },
  NodeServer: {
    on: server,
    calls: { uriOf: [volumeName('volume')], close: [close], [Symbol.asyncDispose.toString()]: [] },
  },
  NbdServerHandle: { on: handle, calls: { stats: [], close: [close], [Symbol.asyncDispose.toString()]: [] } },
  RingProducer: { calls: { reserve: [], publish: [] } },
  RingConsumer: { calls: { next: [], release: [], sleep: [] } },
  // What is thrown is made by the library.
  StrakeError: { calls: { toWire: [], fromWire: [] } },
  RingCorruptError: { calls: {} },
};

/** Each way in which one argument can be wrong: what is given for it, and what the error has to name. */
function* mistakes(
  of: Argument,
): Generator<{ readonly given: unknown; readonly names: string; readonly what: string }> {
  for (const [odd, given] of Object.entries(ODD)) {
    if (of.fine.includes(odd as Odd)) continue;
    if (of.inside !== undefined && (odd === 'emptyObject' || odd === 'valueOf')) continue;
    yield { given, names: of.name, what: odd };
  }
  for (const given of of.wrong) yield { given, names: of.name, what: shown(given) };
  if (of.inside === undefined) return;
  yield { given: { ...(of.good as object), [`${of.name}x`]: 1 }, names: `${of.name}x`, what: 'an unknown key' };
  yield { given: { ...(of.good as object), [Symbol('s')]: 1 }, names: 'Symbol(s)', what: 'a symbol as key' };
  yield {
    given: Object.assign(Object.create({ [of.inside[0].name]: 1 }), of.good),
    names: of.name,
    what: 'a prototype',
  };
  for (const part of of.inside) {
    for (const { given, names, what } of mistakes(part)) {
      yield { given: { ...(of.good as object), [part.name]: given }, names, what: `${part.name}: ${what}` };
    }
  }
}

async function refusesAll(
  title: string,
  call: (...given: unknown[]) => unknown,
  takes: readonly Argument[],
): Promise<number> {
  let count = 0;
  for (const [index, one] of takes.entries()) {
    for (const { given, names, what } of mistakes(one)) {
      const all = takes.map(({ good }) => good);
      all[index] = given;
      const about = `${title}: ${one.name}: ${what}`;
      const error = await Promise.resolve()
        .then(() => call(...all))
        .then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
      assert.ok(error instanceof StrakeError, `${about}: refused, and not with ${String(error)}`);
      const { code, message } = error as StrakeError;
      assert.is(code, 'ERR_STRAKE_INVALID_ARGUMENT', `${about}: ${message}`);
      const address = names === 'port' || names === 'host' ? /port|host|either/ : undefined;
      assert.ok(address?.test(message) ?? message.includes(names), `${about}: "${message}" names ${names}`);
      count += 1;
    }
  }
  return count;
}

/** What the world looks like that wrong arguments must not change. */
async function world(): Promise<string> {
  const facts = { descriptors: readdirSync('/proc/self/fd').length };
  const files = [file, blank].map((one) => readFileSync(one).every((byte) => byte === 0));
  return JSON.stringify([facts, files, existsSync(socket), await node.status()]);
}

const declarations = readdirSync(join(project, 'dist'), { recursive: true, encoding: 'utf8' })
  .filter((name) => /^(embed|ring|core)\/.*\.d\.ts$/.test(name))
  .map((name) => readFileSync(join(project, 'dist', name), 'utf8'))
  .join('\n');

/** Whether programs are not meant to call it, by the declaration of its class. */
function isOwn(owner: string, name: string): boolean {
  const body = new RegExp(`^(?:export )?(?:declare )?(?:abstract )?class ${owner} .*?^}`, 'ms').exec(declarations)?.[0];
  const hidden = new RegExp(`(private|protected) (abstract )?${name}\\b|@internal \\*/\\s+${name}\\(`);
  return body !== undefined && hidden.test(body);
}

/** The methods of a class and of those it extends, of its instances and its own. */
function methodsOf(made: new () => object): string[] {
  const names = new Set<string>();
  const add = (holder: object, owner: string) => {
    for (const key of Reflect.ownKeys(holder)) {
      const { value } = Object.getOwnPropertyDescriptor(holder, key) as PropertyDescriptor;
      const called = typeof value === 'function' && key !== 'constructor' && key !== 'prototype';
      if (called && !isOwn(owner, String(key))) names.add(String(key));
    }
  };
  add(made, made.name);
  let at = made.prototype as object;
  while (at !== Object.prototype && at !== Error.prototype) {
    add(at, at.constructor.name);
    at = Object.getPrototypeOf(at) as object;
  }
  return [...names];
}

check('whatever is public is in the table, and the table knows nothing else', () => {
  const { exports } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as { exports: object };
  assert.equal(Object.keys(exports), ['.', './ring', './package.json']);
  const all = { serveNbd, createRing, ...others } as Readonly<Record<string, unknown>>;
  const functions = Object.entries(all).filter(([, value]) => typeof value === 'function') as [
    string,
    new () => object,
  ][];
  const classes = functions.filter(([, value]) => /^class\b/.test(String(value)));
  const plain = functions.filter(([, value]) => !/^class\b/.test(String(value))).map(([name]) => name);
  assert.equal(plain.sort(), Object.keys(TABLE[''].calls).sort());
  assert.equal(
    classes.map(([name]) => name).sort(),
    Object.keys(TABLE)
      .filter((name) => name !== '')
      .sort(),
  );
  for (const [name, made] of classes) {
    assert.equal(methodsOf(made).sort(), Object.keys(TABLE[name].calls).sort(), name);
  }
});

check('every argument of it is refused when it is wrong, by name, and nothing is done', async () => {
  const before = await world();
  let count = 0;
  for (const [owner, { on, calls }] of Object.entries(TABLE)) {
    for (const [name, takes] of Object.entries(calls)) {
      const target = (on ?? { ...others, serveNbd, createRing }) as Readonly<
        Record<string, (...given: unknown[]) => unknown>
      >;
      const call = (...given: unknown[]) => target[name](...given);
      count += await refusesAll(`${owner}.${name}`, call, takes);
      if (takes.length > 0) assert.is(await world(), before, `${owner}.${name} has changed something`);
    }
  }
  assert.ok(count > 1000, `${count} mistakes`);
});

check('classes that the library makes are made by nobody else, and ends of rings of a ring only', () => {
  const all = others as unknown as Readonly<Record<string, new (...given: unknown[]) => object>>;
  for (const name of ['Device', 'Node', 'NodeVolume', 'NodeServer', 'NbdServerHandle', 'Cluster', 'ClusterManager'])
    assert.throws(() => new all[name](), TypeError);
  for (const name of ['RingProducer', 'RingConsumer']) {
    for (const memory of [
      ...Object.values(ODD),
      new ArrayBuffer(4096),
      new Uint8Array(createRing(2)),
      { [Symbol.toStringTag]: 'SharedArrayBuffer' },
    ]) {
      assert.throws(() => new all[name](memory), /memory has to be a SharedArrayBuffer/);
    }
    for (const bytes of [0, 255, 4096, 4099])
      assert.throws(() => new all[name](new SharedArrayBuffer(bytes)), /not made by createRing/);
  }
});

check('what is fine is done: offsets as bigint, views of shared memory, no bytes at all', async () => {
  const bytes = new Uint8Array(new SharedArrayBuffer(8192), 4096, 4096).fill(7);
  await volume.write(bytes, 4096n, { fua: true, signal: undefined });
  const back = Buffer.alloc(4096);
  await volume.read(back, 4096, Object.assign(Object.create(null), { signal: new AbortController().signal }));
  assert.ok(back.equals(Buffer.alloc(4096, 7)));
  await volume.write(new Uint8Array(0), MIB);
  await failure('OUT_OF_RANGE', volume.write(new Uint8Array(1), MIB));
  await failure('OUT_OF_RANGE', volume.discard(BigInt(Number.MAX_SAFE_INTEGER), Number.MAX_SAFE_INTEGER));
});

check('options are read once: what changes after the check is too late', async () => {
  let reads = 0;
  const changing = {
    get fua() {
      reads += 1;
      return reads === 1 ? true : 'false';
    },
  };
  await volume.write(new Uint8Array(512), 0, changing as { fua: boolean });
  assert.is(reads, 1);
});

check('everything that was opened closes', async () => {
  await cluster.close();
  await manager.close();
  await node.close();
  await device.close();
});

run();
