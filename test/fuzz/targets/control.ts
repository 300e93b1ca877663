/**
 * The control socket: any bytes where an HTTP request is expected, and any JSON where parameters are.
 *
 * The first byte of an input chooses: the whole rest is sent as it is, or as the body of a call. Whatever comes, the node is
 * asked for nothing that its types do not allow, no bug is reported, an answer is JSON with a schema, and an honest call is
 * answered afterwards. Sockets and timers of Node.js take part, so the order of events is not a function of the input.
 */

import { connect } from 'node:net';
import { isMainThread } from 'node:worker_threads';
import { CONTROL, type ControlCall, checkParams } from '#strake/control/calls.js';
import { callNode } from '#strake/control/client.js';
import { type ControlServer, serveControl } from '#strake/control/server.js';
import { StrakeError } from '#strake/core/errors.js';
import type { SimRandom } from '#strake/sim/world/random.js';
import { FakeNode } from '../../support/fake-node.js';
import { socketPath } from '../../support/scratch.js';
import { interesting } from '../mutate.js';
import { demand, type FuzzTarget } from '../target.js';

const CALLS = Object.keys(CONTROL) as ControlCall[];
/** How an input is used. */
const WHOLE = 0;
const PARAMS = 1;
const WAYS = 8;
const HANG_MS = 20_000;
const EXAMPLES: readonly (readonly [ControlCall, object])[] = [
  ['status', {}],
  ['create', { name: 'main', sizeBytes: 1 << 20, layout: 'mirror', copies: 2 }],
  ['grow', { name: 'main', sizeBytes: 1 << 21 }],
  ['rename', { name: 'main', newName: 'other' }],
  ['delete', { name: 'main', confirm: 'main' }],
  ['start', { name: 'main', without: ['a'.repeat(32)] }],
  ['scrub', { name: 'main', bytesPerSecond: 7 }],
  ['cancel-job', { id: 1 }],
  ['add-device', { path: '/dev/sdz' }],
  ['replace-device', { deviceId: 'b'.repeat(32), path: '/dev/sdz' }],
  ['forget-device', { deviceId: 'c'.repeat(32) }],
];

function requestOf(call: ControlCall, body: string): string {
  const method = CONTROL[call].changes ? 'POST' : 'GET';
  return `${method} /v1/${call} HTTP/1.1\r\nHost: n\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

/** A value that JSON can carry, and nobody expects. */
function oddValue(random: SimRandom, depth: number): unknown {
  const simple = [null, true, -0, interesting(random), -1.5, 1e308, '', '\0', 'a'.repeat(random.below(5000)), '\ud800'];
  const kind = random.below(depth > 3 ? simple.length : simple.length + 3);
  if (kind < simple.length) return simple[kind];
  const values = Array.from({ length: random.below(70) }, () => oddValue(random, depth + 1));
  if (kind === simple.length) return values;
  const keys = ['__proto__', 'constructor', 'toString', 'name', 'sizeBytes', 'length', 'then'];
  return Object.fromEntries(values.map((value) => [random.pick(keys), value]));
}

/** Parameters of which some are not what they should be. */
function generate(random: SimRandom): Uint8Array {
  const [call, params] = random.pick(EXAMPLES);
  const odd: Record<string, unknown> = { ...params };
  const keys = [...Object.keys(params), 'name', '__proto__', 'confirm', 'without'];
  for (let left = random.below(3); left > 0; left -= 1) odd[random.pick(keys)] = oddValue(random, 0);
  const body = JSON.stringify(random.chance(0.9) ? odd : oddValue(random, 0));
  if (random.chance(0.3)) return Buffer.concat([Uint8Array.of(WHOLE), Buffer.from(requestOf(call, body))]);
  return Buffer.concat([Uint8Array.of(PARAMS, CALLS.indexOf(call)), Buffer.from(body)]);
}

/** A node with its control socket, used by one input after another: opening one costs more than asking it. */
class Controlled {
  readonly node = new FakeNode();
  readonly socket = socketPath();
  private readonly bugs: unknown[] = [];
  private server: ControlServer | undefined;

  async open(): Promise<void> {
    // Threads cannot set it. The mode of the socket is not what is fuzzed.
    if (!isMainThread) process.umask = () => 0;
    this.server = await serveControl({
      socket: this.socket,
      node: this.node,
      process: { pid: 1, dir: '/node', address: '/node/strake.sock', startedAt: '2026-01-02T03:04:05.678Z' },
      uriOf: (volume) => `nbd+unix:///${volume}`,
      onStop: () => {},
      onBug: (error) => this.bugs.push(error),
    });
  }

  close(): Promise<void> | undefined {
    return this.server?.close();
  }

  /** Sends bytes and then nothing more. Returns what comes until the server ends the connection. */
  exchange(bytes: Uint8Array): Promise<string> {
    return new Promise((resolve, reject) => {
      let answer = '';
      const socket = connect({ path: this.socket, allowHalfOpen: true });
      const hung = setTimeout(() => reject(new Error('the server neither answers nor closes')), HANG_MS);
      const end = () => {
        clearTimeout(hung);
        socket.destroy();
        resolve(answer);
      };
      socket.setEncoding('utf8').on('data', (text: string) => (answer += text));
      socket.on('end', end).on('close', end).on('error', end);
      socket.end(bytes);
    });
  }

  /** Afterwards it is as it was, and answers. */
  async judge(): Promise<void> {
    demand(this.bugs.length === 0, `a bug: ${String((this.bugs[0] as Error | undefined)?.stack)}`);
    for (const [name, ...args] of this.node.asked) this.judgeAsked(String(name), args);
    this.node.asked.length = 0;
    this.node.list = [];
    const { verdict } = await callNode(this.socket, 'status', {});
    demand(verdict === 'ok', `an honest call is answered with ${verdict}`);
  }

  private judgeAsked(name: string, args: readonly unknown[]): void {
    const [first] = args;
    if (name === 'cancel') {
      demand(Number.isSafeInteger(first) && (first as number) > 0, `cancel of ${String(first)}`);
      return;
    }
    const text = name === 'create' ? (first as { name: unknown }).name : first;
    demand(typeof text === 'string' && text.length > 0 && !text.includes('\0'), `${name} of ${JSON.stringify(text)}`);
    const size = name === 'create' ? (first as { sizeBytes: unknown }).sizeBytes : name === 'grow' ? args[1] : 1;
    demand(Number.isSafeInteger(size) && (size as number) > 0, `${name} of ${String(size)} bytes`);
  }
}

function judgeAnswer(answer: string): void {
  // Node.js answers by itself what is no HTTP, and several requests get several answers.
  if (!answer.startsWith('HTTP/1.1 ') || answer.startsWith('HTTP/1.1 4') || answer.split('HTTP/1.1 ').length > 2)
    return;
  const body = answer.slice(answer.indexOf('\r\n\r\n') + 4);
  if (body === '') return;
  const { schema } = JSON.parse(body) as { schema: unknown };
  demand(typeof schema === 'string' && schema.startsWith('strake.'), `an answer with schema ${String(schema)}`);
}

/** Parameters without a socket: a call is made of them, or they are refused by name. */
function params(call: ControlCall, text: string): void {
  let sent: unknown;
  try {
    sent = JSON.parse(text);
  } catch {
    return;
  }
  try {
    const checked = checkParams(call, sent) as Record<string, unknown>;
    for (const key of Object.keys(checked)) demand(Object.hasOwn(CONTROL[call].fields, key), `${call} takes ${key}`);
  } catch (error) {
    if (!(error instanceof StrakeError) || error.code !== 'ERR_STRAKE_INVALID_ARGUMENT') throw error;
  }
}

export const control: FuzzTarget = {
  name: 'control',
  covers: ['control'],
  bytesMax: 80_000,
  corpus: () => [
    ...EXAMPLES.map(([call, sent]) => Buffer.from(`\0${requestOf(call, JSON.stringify(sent))}`)),
    Buffer.from('\0GET /v1/status HTTP/1.1\r\nHost: n\r\n\r\nGET /v1/devices HTTP/1.1\r\nHost: n\r\n\r\n'),
    Buffer.from(
      '\0POST /v1/grow HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n',
    ),
  ],
  generate,
  run: async (bytes) => {
    const way = (bytes[0] ?? 0) % WAYS;
    if (way !== WHOLE) {
      const call = CALLS[(bytes[1] ?? 0) % CALLS.length];
      params(call, Buffer.from(bytes.subarray(2)).toString('utf8'));
      return;
    }
    const controlled = new Controlled();
    await controlled.open();
    try {
      judgeAnswer(await controlled.exchange(bytes.subarray(1)));
      await controlled.judge();
    } finally {
      await controlled.close();
    }
  },
};
