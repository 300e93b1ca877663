/** Asking a running node through its control socket. */

import { lstatSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { ERRORS, type ErrorName, StrakeError } from '../core/errors.js';
import { CONTROL, type ControlCall, type ControlCalls } from './calls.js';
import { ANSWER_BYTES_MAX } from './limits.js';

/** Time for one call, which may have to open and read a device. */
const CALL_MS = 120_000;

/** Checks that the socket is of this user or of root: in a shared folder it could be anybody's. */
function checkOwner(socket: string): void {
  const found = lstatSync(socket, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (found.uid !== 0 && found.uid !== process.getuid?.()) {
    throw new StrakeError('NO_PERMISSION', `${socket} belongs to another user`, {
      remedy: 'Run as the user that runs the node.',
    });
  }
}

function transportError(error: NodeJS.ErrnoException, socket: string): StrakeError {
  if (error.code === 'EACCES' || error.code === 'EPERM') {
    return new StrakeError('NO_PERMISSION', `${socket}: this user must not use it`, {
      remedy: 'Run as the user that runs the node.',
      cause: error,
    });
  }
  if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') {
    return new StrakeError('NO_NODE', `no node answers at ${socket}`, { cause: error });
  }
  return new StrakeError('NO_NODE', `the node at ${socket} did not answer: ${error.message}`, { cause: error });
}

async function readAnswer(response: IncomingMessage, socket: string): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > ANSWER_BYTES_MAX) throw new StrakeError('NO_NODE', `${socket} answers without end`);
    parts.push(part);
  }
  try {
    const answer: unknown = JSON.parse(Buffer.concat(parts).toString('utf8'));
    if (typeof answer === 'object' && answer !== null && 'schema' in answer) return answer as Record<string, unknown>;
  } catch {
    // It is somebody else, as is one whose answer has no schema.
  }
  throw new StrakeError('NO_NODE', `what answers at ${socket} is not a node`);
}

/** The error that the node answered with. */
function errorOf(answer: Record<string, unknown>): StrakeError {
  const name = String(answer.code).slice('ERR_STRAKE_'.length);
  const known = Object.hasOwn(ERRORS, name) ? (name as ErrorName) : 'IO';
  const errno = typeof answer.errno === 'number' ? answer.errno : undefined;
  return new StrakeError(known, String(answer.message), { remedy: String(answer.remedy), errno });
}

function exchange(socket: string, call: ControlCall, body: string | undefined): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(error instanceof StrakeError ? error : transportError(error, socket));
    const headers =
      body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const method = body === undefined ? 'GET' : 'POST';
    const sent = request({ socketPath: socket, path: `/v1/${call}`, method, headers, agent: false }, (response) => {
      readAnswer(response, socket).then(resolve, fail);
    });
    sent.setTimeout(CALL_MS, () => {
      sent.destroy(new StrakeError('TIMED_OUT', `the node at ${socket} did not answer within ${CALL_MS / 1000} s`));
    });
    sent.on('error', fail).end(body);
  });
}

/**
 * Makes a call. Throws what the node throws; `ERR_STRAKE_NO_NODE` if none answers, `ERR_STRAKE_TIMED_OUT` if it does not in
 * time, `ERR_STRAKE_NO_PERMISSION` if the socket is not for this user.
 */
export async function callNode<C extends ControlCall>(
  socket: string,
  call: C,
  params: ControlCalls[C]['params'],
): Promise<ControlCalls[C]['answer']> {
  checkOwner(socket);
  const answer = await exchange(socket, call, CONTROL[call].changes ? JSON.stringify(params) : undefined);
  if (answer.schema === 'strake.error') throw errorOf(answer);
  if (answer.schema !== `strake.control.${call}`) {
    throw new StrakeError('NO_NODE', `what answers at ${socket} is not a node of this version`);
  }
  const { schema: _schema, version: _version, ...data } = answer;
  return data as unknown as ControlCalls[C]['answer'];
}
