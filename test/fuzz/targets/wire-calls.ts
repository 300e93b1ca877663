/**
 * Both ends of what managers are asked and answer: any bytes where parts of messages are expected. What is taken for a call or an
 * answer can be written again, and means the same then.
 */

import { ERRORS } from '#strake/core/errors.js';
import { decodeFailure } from '#strake/wire/control.js';
import { ANSWER_PARTS_MAX, PART_BYTES_MAX } from '#strake/wire/limits.js';
import { type Body, decodeBody, encodeBody } from '#strake/wire/manager-bodies.js';
import { callOf, DECIDED } from '#strake/wire/manager-calls.js';
import { IncomingMessages } from '#strake/wire/message-parts.js';
import {
  CALL_NAMES,
  FROM_ANSWERER,
  FROM_ASKER,
  HEADER_BYTES,
  isCall,
  KIND_ALIVE,
  KIND_ANSWER,
  KIND_CALL,
  KIND_DECIDED,
  KIND_FAILURE,
  KIND_HERE,
} from '#strake/wire/messages.js';
import { KEY } from '../../support/wire-examples.js';
import { demand, type FuzzTarget } from '../target.js';
import { corpusFor, generateFor, readStream, refusable, reseal, type Take } from '../wire-streams.js';

const OF_MANAGERS = (kind: number) => kind >= KIND_ANSWER && kind < KIND_CALL + CALL_NAMES.length;

function takeBody(name: string, body: Body<unknown>, bytes: Uint8Array): void {
  const found = refusable(() => ({ value: decodeBody(name, body, bytes, KEY) }));
  if (found === null) return;
  const written = encodeBody(body, found.value);
  const again = encodeBody(body, decodeBody(name, body, written, KEY));
  demand(Buffer.from(again).equals(written), `${name} is written otherwise when it is read again`);
  demand(({} as { x?: unknown }).x === undefined, 'all objects have got a key');
}

function takeMessage(kind: number, bytes: Uint8Array, pick: () => (typeof CALL_NAMES)[number]): void {
  demand(bytes.length <= ANSWER_PARTS_MAX * PART_BYTES_MAX, `a message of ${bytes.length} bytes`);
  if (isCall(kind)) {
    const name = CALL_NAMES[kind - KIND_CALL];
    takeBody(name, callOf(name).request, bytes);
  } else if (kind === KIND_ANSWER) {
    const name = pick();
    takeBody(name, callOf(name).answer, bytes);
  } else if (kind === KIND_DECIDED) takeBody('decided', DECIDED as unknown as Body<unknown>, bytes);
  else if (kind === KIND_FAILURE) {
    const error = refusable(() => decodeFailure(bytes));
    demand(error === null || Object.values(ERRORS).includes(error.entry), 'an error that there is not');
  }
}

function taking(): Take {
  const incoming = new IncomingMessages();
  return (memory, reader, at, random) => {
    const { kind, payload } = reader.frame;
    if (!OF_MANAGERS(kind) || kind === KIND_ALIVE || kind === KIND_HERE) return;
    const bytes = memory.slice(at + HEADER_BYTES, payload);
    const whole = refusable(() => incoming.take(reader.frame, bytes));
    if (whole !== null) takeMessage(kind, whole, () => random.pick(CALL_NAMES));
  };
}

function target(name: string, from: number): FuzzTarget {
  return {
    name,
    covers: ['wire', 'layout'],
    bytesMax: 20_000,
    corpus: () => corpusFor(from, OF_MANAGERS),
    generate: generateFor(from, OF_MANAGERS),
    reseal: (bytes) => reseal(bytes, from),
    run: (bytes, random) => readStream(bytes, random, from, taking()),
  };
}

export const wireCalls = target('wire-calls', FROM_ASKER);
export const wireAnswers = target('wire-answers', FROM_ANSWERER);
