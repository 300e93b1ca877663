/** Sequences of requests against a model of bytes, and requests that meet in one block. */

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { CMD, FLAG, type Request } from '../support/nbd-client.js';
import { pattern, same, succeeded } from '../support/nbd-content.js';
import { served, serving } from '../support/served.js';

/** The property test's device: small, so that requests meet. */
const SMALL = 192 << 10;

/** One step of the property test; a range that lies within the small device. */
interface Step {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  readonly seed: number;
}

const range = fc
  .record({
    offset: fc.integer({ min: 0, max: SMALL - 1 }),
    length: fc.oneof(
      { weight: 3, arbitrary: fc.integer({ min: 1, max: 9000 }) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: SMALL }) },
    ),
    align: fc.constantFrom(1, 1, 512, 4096),
  })
  .map(({ offset, length, align }) => {
    const start = offset - (offset % align);
    const bytes = Math.min(SMALL - start, Math.ceil(length / align) * align);
    return { offset: start, length: bytes };
  });

const step: fc.Arbitrary<Step> = fc
  .record({
    what: fc.constantFrom(
      { type: CMD.read, flags: 0 },
      { type: CMD.read, flags: FLAG.df },
      { type: CMD.write, flags: 0 },
      { type: CMD.write, flags: 0 },
      { type: CMD.write, flags: FLAG.fua },
      { type: CMD.writeZeroes, flags: 0 },
      { type: CMD.writeZeroes, flags: FLAG.noHole },
      { type: CMD.writeZeroes, flags: FLAG.fua | FLAG.noHole },
      { type: CMD.cache, flags: 0 },
    ),
    range,
    seed: fc.nat({ max: 1000 }),
  })
  .map(({ what, range, seed }) => ({ ...what, ...range, seed }));

function requestOf({ type, flags, offset, length, seed }: Step, structured: boolean): Request {
  if (type === CMD.write) return { type, flags, offset, payload: pattern(length, seed) };
  return { type, flags: structured ? flags : flags & ~FLAG.df, offset, length };
}

/** Does to the model what the step does to the device. */
function apply(model: Buffer, { type, offset, length, seed }: Step): void {
  if (type === CMD.write) pattern(length, seed).copy(model, offset);
  if (type === CMD.writeZeroes) model.fill(0, offset, offset + length);
}

check('the device holds what a model of bytes holds, after every step', async () => {
  await serving({ content: pattern(SMALL, 4) }, async (server) => {
    const clients = [await server.connect(), await server.connect({ structured: true })];
    const model = pattern(SMALL, 4);
    const property = fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      for (const [index, one] of steps.entries()) {
        const client = clients[index % 2];
        const { error, data } = await client.ask(requestOf(one, client.structured));
        assert.is(error, 0);
        apply(model, one);
        if (one.type === CMD.read) same(data, model.subarray(one.offset, one.offset + one.length), 'a read');
      }
      same(await clients[0].read(0, SMALL), model, 'the device');
    });
    await fc.assert(property, { numRuns: 120, seed: 5, endOnFailure: true });
    await Promise.all(clients.map((client) => client.disconnect()));
    await server.closeServer();
    same(readFileSync(server.file), model, 'the file');
  });
});

/** Steps that cover blocks in part, so that the server promises their order. */
const partial = step
  .filter(({ type }) => type === CMD.write || type === CMD.writeZeroes)
  .map((one) => {
    const offset = 1 + one.offset - (one.offset % 512);
    const within = Math.min(one.length, SMALL - offset);
    return { ...one, offset, length: within % 512 === 511 ? within - 1 : within };
  });

check('overlapping unaligned writes that are pipelined take effect in their order', async () => {
  await served({ content: pattern(SMALL, 6) }, async (server) => {
    const client = await server.connect();
    const model = pattern(SMALL, 6);
    const property = fc.asyncProperty(fc.array(partial, { minLength: 2, maxLength: 60 }), async (steps) => {
      succeeded(await client.askAll(steps.map((one) => requestOf(one, false))));
      for (const one of steps) apply(model, one);
      same(await client.read(0, SMALL), model, 'the device');
    });
    await fc.assert(property, { numRuns: 40, seed: 7, endOnFailure: true });
    await client.disconnect();
  });
});

check('writes that meet in one block neither undo nor tear each other', async () => {
  await served({ content: 64 << 10 }, async (server) => {
    const clients = await Promise.all([1, 2, 3, 4].map(() => server.connect()));
    // Neighbouring runs of 100 bytes, dealt out to all clients, so that every block is changed by all of them at once.
    const expected = pattern(64_000, 8);
    const work = clients.map((client, index) => {
      const requests: Request[] = [];
      for (let run = index; run < 640; run += clients.length) {
        const offset = run * 100;
        requests.push({ type: CMD.write, offset, payload: expected.subarray(offset, offset + 100) });
      }
      return client.askAll(requests);
    });
    for (const answers of await Promise.all(work)) succeeded(answers);
    same(await clients[0].read(0, 64_000), expected, 'all writes');
    await Promise.all(clients.map((client) => client.disconnect()));
  });
});

run();
