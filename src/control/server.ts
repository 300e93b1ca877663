/**
 * The control socket of a node: HTTP on a unix socket that only its owner and root can use.
 *
 * Whoever can connect may do all that the node can, so there are no users and no tokens. Bodies, headers, times and
 * connections are bounded.
 */

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { ERRORS, type ErrorName, StrakeError, toStrakeError } from '../core/errors.js';
import { volumeMeant } from '../core/volume-names.js';
import type { Node } from '../embed/node.js';
import type { NodeVolumeStatus } from '../embed/node-types.js';
import {
  CONTROL,
  CONTROL_VERSION,
  type ControlCall,
  type ControlCalls,
  type ControlProcess,
  type ControlVolume,
  checkParams,
} from './calls.js';
import { CONTROL_BODY_MAX } from './limits.js';
import { closeServer, listenAt, prepareSocket } from './socket.js';

/** What of a node is controlled. */
export type ControlledNode = Pick<
  Node,
  | 'status'
  | 'devices'
  | 'volumes'
  | 'createVolume'
  | 'growVolume'
  | 'renameVolume'
  | 'deleteVolume'
  | 'startVolume'
  | 'scrub'
  | 'jobs'
  | 'cancelJob'
  | 'findDevice'
  | 'addDevice'
  | 'replaceDevice'
  | 'forgetDevice'
>;

export interface ControlServerOptions {
  /** Path of the unix socket. */
  readonly socket: string;
  readonly node: ControlledNode;
  readonly process: ControlProcess;
  /** Where clients find a volume; may throw while it is not served. */
  readonly uriOf: (volume: string) => string;
  /** Somebody asked the node to stop, and has been answered. */
  readonly onStop: () => void;
  /** Told of errors that are bugs. */
  readonly onBug: (error: unknown) => void;
}

const CONNECTIONS = 64;
const HEADERS_MS = 10_000;
const REQUEST_MS = 30_000;

type Handlers = { [C in ControlCall]: (params: ControlCalls[C]['params']) => Promise<ControlCalls[C]['answer']> };

/** A listening control socket. */
export interface ControlServer {
  readonly socket: string;
  /** The node is about to end its jobs in order to stop: whoever asks for them is told so with `ERR_STRAKE_NO_NODE`. */
  noteStopping(): void;
  /** Answers what is in progress, for at most 2 seconds, and removes the socket. */
  close(): Promise<void>;
}

function handlersOf(options: ControlServerOptions, isStopping: () => boolean): Handlers {
  const { node, process: self } = options;
  const withUri = (volume: NodeVolumeStatus): ControlVolume => ({ ...volume, uri: uriOrEmpty(options, volume) });
  const find = async (text: string) => withUri(volumeMeant(await node.volumes(), text));
  return {
    status: async () => {
      const status = await node.status();
      return { ...status, volumes: status.volumes.map(withUri), process: self };
    },
    volumes: async () => ({ volumes: (await node.volumes()).map(withUri) }),
    devices: async () => ({ devices: await node.devices() }),
    create: async (params) => {
      await node.createVolume(params);
      return { volume: await find(params.name) };
    },
    // What is done to a volume is done by its id: the name may be another one's by then.
    grow: async ({ name, sizeBytes }) => {
      const { id } = await find(name);
      await node.growVolume(id, sizeBytes);
      return { volume: await find(id) };
    },
    rename: async ({ name, newName }) => {
      const { id } = await find(name);
      await node.renameVolume(id, newName);
      return { volume: await find(id) };
    },
    delete: async ({ name: text, confirm }) => {
      const volume = await find(text);
      checkConfirmed(volume, confirm);
      const { id, name } = volume;
      await node.deleteVolume(id);
      return { id, name };
    },
    start: async ({ name, without }) => {
      const { id } = await find(name);
      await node.startVolume(id, { without });
      return { volume: await find(id) };
    },
    scrub: async ({ name, bytesPerSecond }) => {
      const { id } = await find(name);
      const job = await node.scrub(id, bytesPerSecond === undefined ? {} : { bytesPerSecond });
      return { volume: await find(id), job };
    },
    jobs: async () => {
      const jobs = await node.jobs();
      // They may be those of a node that stops, each ended by that: whoever waits for one is not told that it was cancelled.
      if (isStopping()) throw new StrakeError('NO_NODE', `the node (process ${self.pid}) is being stopped`);
      return { jobs, startedAt: self.startedAt };
    },
    'cancel-job': async ({ id }) => ({ job: await node.cancelJob(id) }),
    'find-device': async ({ name, path }) => ({ deviceId: await node.findDevice(name, path) }),
    'add-device': async ({ path }) => ({ device: await node.addDevice(path) }),
    'replace-device': async ({ deviceId, path }) => {
      const jobs = await node.replaceDevice(deviceId, path);
      return { devices: await node.devices(), jobs };
    },
    'forget-device': async ({ deviceId }) => ({ deviceId, volumes: await node.forgetDevice(deviceId) }),
    stop: async () => ({ pid: self.pid }),
  };
}

function uriOrEmpty({ uriOf }: ControlServerOptions, { name, state }: NodeVolumeStatus): string {
  // Under this address there is another volume, or none.
  if (state === 'conflict') return '';
  try {
    return uriOf(name);
  } catch (error) {
    if (error instanceof StrakeError) return '';
    throw error;
  }
}

/** A volume that holds data is deleted only if it was named twice. */
function checkConfirmed({ id, name, allocatedBytes }: ControlVolume, confirm: string | undefined): void {
  if (confirm !== undefined && confirm !== name && confirm.toLowerCase() !== id) {
    const words = `it is ${JSON.stringify(name)}, with the id ${id}, not ${JSON.stringify(confirm)}`;
    throw new StrakeError('INVALID_ARGUMENT', `the confirmation names another volume: ${words}`);
  }
  if (confirm === undefined && allocatedBytes > 0) {
    throw new StrakeError('HOLDS_DATA', `volume ${name} holds data; it was not deleted`);
  }
}

/** The bytes of a request's body. Whoever sends them may go away meanwhile. */
async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  try {
    // A request that is given up is still answered, so its connection must stay.
    for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      length += part.length;
      if (length > CONTROL_BODY_MAX) break;
      parts.push(part);
    }
  } catch (cause) {
    throw new StrakeError('ABORTED', 'the request broke off', { cause });
  }
  if (length <= CONTROL_BODY_MAX) return Buffer.concat(parts);
  throw new StrakeError('INVALID_ARGUMENT', `the request has more than ${CONTROL_BODY_MAX} bytes`);
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const body = await bodyOf(request);
  if (body.length === 0) return {};
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw new StrakeError('INVALID_ARGUMENT', `the request is not JSON: ${(error as Error).message}`);
  }
}

/** The call that a request names. Throws `ERR_STRAKE_INVALID_ARGUMENT`. */
function callOf({ method, url }: IncomingMessage): ControlCall {
  const name = /^\/v1\/([a-z-]+)$/.exec(url ?? '')?.[1] ?? '';
  if (!Object.hasOwn(CONTROL, name)) {
    const known = Object.keys(CONTROL).map((call) => `/v1/${call}`);
    throw new StrakeError('INVALID_ARGUMENT', `there is no ${JSON.stringify(url)}; known are ${known.join(', ')}`);
  }
  const expected = CONTROL[name as ControlCall].changes ? 'POST' : 'GET';
  if (method !== expected) throw new StrakeError('INVALID_ARGUMENT', `/v1/${name} takes ${expected}, not ${method}`);
  return name as ControlCall;
}

const HTTP_STATUS: Readonly<Record<number, number>> = { 1: 500, 2: 400, 4: 503, 5: 409 };

function send(response: ServerResponse, status: number, body: object): Promise<void> {
  // Nobody is there any more, and it will not be told again that it has closed.
  if (response.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const text = `${JSON.stringify(body)}\n`;
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      connection: 'close',
    };
    response.on('close', resolve).writeHead(status, headers).end(text);
  });
}

function sendError(response: ServerResponse, error: StrakeError): Promise<void> {
  const { code, message, remedy, retryable, errno } = error;
  const status = HTTP_STATUS[ERRORS[code.slice('ERR_STRAKE_'.length) as ErrorName].exitCode];
  return send(response, status, { schema: 'strake.error', version: 1, code, message, remedy, retryable, errno });
}

async function answer(options: ControlServerOptions, handlers: Handlers, request: IncomingMessage) {
  const call = callOf(request);
  const params = checkParams(call, await readBody(request));
  const handler = handlers[call] as (params: unknown) => Promise<object>;
  return { call, data: await handler(params), stop: call === 'stop' ? options.onStop : undefined };
}

async function serve(
  options: ControlServerOptions,
  handlers: Handlers,
  request: IncomingMessage,
  response: ServerResponse,
) {
  try {
    const { call, data, stop } = await answer(options, handlers, request);
    await send(response, 200, { schema: `strake.control.${call}`, version: CONTROL_VERSION, ...data });
    stop?.();
  } catch (error) {
    if (!(error instanceof StrakeError)) options.onBug(error);
    await sendError(response, toStrakeError(error));
  }
}

/**
 * Opens a control socket, mode 0600. Throws `ERR_STRAKE_ADDRESS_IN_USE` if a node answers there, `ERR_STRAKE_ADDRESS` or
 * `ERR_STRAKE_NO_PERMISSION` if it is not possible to listen there.
 */
export async function serveControl(options: ControlServerOptions): Promise<ControlServer> {
  const { socket } = options;
  await prepareSocket(socket);
  let stopping = false;
  const handlers = handlersOf(options, () => stopping);
  const limits = { headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS, maxHeaderSize: 8 << 10 };
  const server = createServer(limits, (request, response) => void serve(options, handlers, request, response));
  server.maxConnections = CONNECTIONS;
  await listenAt(server, socket);
  const noteStopping = () => {
    stopping = true;
  };
  return { socket, noteStopping, close: () => closeServer(server) };
}
