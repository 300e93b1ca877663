import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import {
  type Answer,
  CMD,
  contextData,
  EINVAL,
  EIO,
  ENOSPC,
  FLAG,
  header,
  NbdClient,
  OPT,
  type Request,
  TX,
} from '../support/nbd-client.js';
import { pattern, same, succeeded } from '../support/nbd-content.js';
import { until } from '../support/scratch.js';
import { served, serving } from '../support/served.js';

const MIB = 1 << 20;
const PAYLOAD_MAX = 32 * MIB;
/** The modes in which reads are answered. */
const MODES = [
  { mode: 'simple', structured: false, flags: 0 },
  { mode: 'structured', structured: true, flags: 0 },
  { mode: 'structured and not fragmented', structured: true, flags: FLAG.df },
] as const;

for (const { mode, structured, flags } of MODES) {
  check(`reads of any size and alignment give what is on the device, replies ${mode}`, async () => {
    const content = pattern(3 * MIB, 1);
    await served({ content }, async (server) => {
      const client = await server.connect({ structured });
      const ranges = [
        [0, 1],
        [0, 512],
        [1, 4095],
        [511, 2],
        [4095, 2],
        [5000, 100_000],
        [MIB - 1, 2],
        [MIB - 700, MIB + 1400],
        [3, 3 * MIB - 5],
        [3 * MIB - 1, 1],
        [0, 3 * MIB],
      ];
      const answers = await client.askAll(
        ranges.map(([offset, length]) => ({ type: CMD.read, flags, offset, length })),
      );
      succeeded(answers);
      answers.forEach(({ data, chunks }, index) => {
        const [offset, length] = ranges[index];
        same(data, content.subarray(offset, offset + length), `${length} bytes at ${offset}`);
        if (flags === FLAG.df) assert.is(chunks, 1);
        else assert.is(chunks > 0, structured);
      });
      await client.disconnect();
    });
  });

  check(`requests may be 32 MiB, and no more, replies ${mode}`, async () => {
    await served({ content: 40 * MIB }, async (server) => {
      const client = await server.connect({ structured });
      const payload = pattern(PAYLOAD_MAX, 2);
      const offset = MIB + 77;
      await client.write(offset, payload);
      same(await client.read(offset, PAYLOAD_MAX, flags), payload, 'what was written');
      assert.is(await client.errorOf({ type: CMD.read, flags, offset: 0, length: PAYLOAD_MAX + 1 }), EINVAL);
      const long = Buffer.alloc(PAYLOAD_MAX + 1, 0xee);
      assert.is(await client.errorOf({ type: CMD.write, offset: 0, payload: long }), EINVAL);
      same(
        await client.read(offset - 9, 9 + 4096, flags),
        Buffer.concat([Buffer.alloc(9), payload.subarray(0, 4096)]),
        'after a refusal',
      );
      await client.disconnect();
    });
  });
}

check('several large reads at once come whole, whatever lies between them', async () => {
  const content = pattern(12 * MIB, 3);
  await served({ content }, async (server) => {
    for (const { structured, flags } of MODES) {
      const client = await server.connect({ structured });
      const requests: Request[] = [];
      for (let number = 0; number < 12; number += 1) {
        requests.push({ type: CMD.read, flags, offset: number * 1111, length: 9 * MIB + number });
        requests.push({ type: CMD.read, offset: number * 4096, length: 4096 });
        requests.push({ type: CMD.cache, offset: 0, length: MIB });
        requests.push({
          type: CMD.write,
          offset: 11 * MIB + number * 512,
          payload: content.subarray(11 * MIB + number * 512).subarray(0, 512),
        });
      }
      const answers = await client.askAll(requests);
      succeeded(answers);
      for (const { request, data } of answers) {
        const offset = Number(request.offset);
        if (request.type === CMD.read) same(data, content.subarray(offset, offset + data.length), `read at ${offset}`);
      }
      await client.disconnect();
    }
  });
});

check('TRIM spares what lies outside of it, and flags of zeroing are honoured', async () => {
  const content = pattern(MIB, 9);
  await served({ content }, async (server) => {
    const client = await server.connect({ structured: true });
    assert.is(await client.errorOf({ type: CMD.trim, offset: 5000, length: 300_001 }), 0);
    assert.is(await client.errorOf({ type: CMD.trim, flags: FLAG.fua, offset: 400_000, length: 1 }), 0);
    same(await client.read(0, 5000), content.subarray(0, 5000), 'before the range');
    same(await client.read(305_001, MIB - 305_001), content.subarray(305_001), 'behind the range');
    const fast = { type: CMD.writeZeroes, flags: FLAG.fastZero, offset: 512 << 10, length: 64 << 10 };
    const error = await client.errorOf(fast);
    assert.is(error, (client.flags & TX.fastZero) !== 0 ? 0 : error, 'fast zeroing succeeds where it is offered');
    if (error === 0) same(await client.read(fast.offset, fast.length), Buffer.alloc(fast.length), 'zeroed fast');
    else same(await client.read(fast.offset, 4096), content.subarray(fast.offset, fast.offset + 4096), 'not zeroed');
    const keep = { type: CMD.writeZeroes, flags: FLAG.noHole | FLAG.fua, offset: 700_001, length: 99_999 };
    assert.is(await client.errorOf(keep), 0);
    same(
      await client.read(700_000, 100_001),
      Buffer.concat([content.subarray(700_000, 700_001), Buffer.alloc(99_999), content.subarray(800_000, 800_001)]),
      'zeroed',
    );
    await client.disconnect();
  });
});

/** The whole map of the device, as a client that follows the extents finds it: for each sector whether it may hold data. */
async function holdsData(client: NbdClient, flags: number): Promise<boolean[]> {
  const sectors: boolean[] = [];
  let offset = 0;
  while (offset < client.sizeBytes) {
    const length = client.sizeBytes - offset;
    const { error, extents } = await client.ask({ type: CMD.blockStatus, flags, offset, length });
    assert.is(error, 0);
    assert.ok(extents.length > 0 && extents.length <= ((flags & FLAG.one) !== 0 ? 1 : 256));
    for (const extent of extents) {
      assert.ok(extent.length > 0 && extent.length % 512 === 0 && extent.length <= client.sizeBytes - offset);
      for (let sector = 0; sector < extent.length / 512; sector += 1) sectors.push((extent.flags & 2) === 0);
      offset += extent.length;
    }
  }
  assert.is(offset, client.sizeBytes);
  return sectors;
}

check('BLOCK_STATUS never calls data zero, in as many replies as it takes', async () => {
  const bytes = 8 * MIB;
  await served({ content: bytes }, async (server) => {
    const client = await server.connect({ structured: true });
    assert.ok(
      (await holdsData(client, 0)).every((data) => !data),
      'a new file is one hole',
    );
    const requests: Request[] = [];
    for (let block = 1; block < bytes / 4096; block += 2) {
      requests.push({ type: CMD.write, offset: block * 4096, payload: pattern(4096, block) });
    }
    succeeded(await client.askAll(requests));
    await client.flush();
    for (const flags of [0, FLAG.one]) {
      const map = await holdsData(client, flags);
      for (const { offset } of requests) assert.ok(map[Number(offset) / 512], `the block at ${offset} holds data`);
      assert.ok(
        map.some((data) => !data),
        'and there are holes',
      );
    }
    const within = await client.ask({ type: CMD.blockStatus, flags: FLAG.one, offset: 4096 + 512, length: 1024 });
    assert.equal(within.extents, [{ length: 1024, flags: 0 }]);
    await client.disconnect();
  });
});

check('BLOCK_STATUS needs a chosen context', async () => {
  await served({}, async (server) => {
    for (const structured of [false, true]) {
      const client = await server.connect({ structured, context: false });
      assert.is(await client.errorOf({ type: CMD.blockStatus, offset: 0, length: 4096 }), EINVAL);
      await client.read(0, 1);
      await client.disconnect();
    }
    const client = await server.greet();
    await client.haggle(OPT.structuredReply);
    await client.haggle(OPT.setMetaContext, contextData('', []));
    client.structured = true;
    await client.handshake({});
    assert.is(await client.errorOf({ type: CMD.blockStatus, offset: 0, length: 4096 }), EINVAL);
    await client.disconnect();
  });
});

check('a connection reads what another has written, and its flush covers it', async () => {
  await served({}, async (server) => {
    const [writer, reader] = [await server.connect(), await server.connect({ structured: true })];
    assert.ok((writer.flags & TX.multiConn) !== 0);
    for (let round = 0; round < 50; round += 1) {
      const data = pattern(3000 + round, round);
      await writer.write(round * 1000, data);
      same(await reader.read(round * 1000, data.length), data, 'what the other wrote');
    }
    await reader.flush();
    await Promise.all([writer.disconnect(), reader.disconnect()]);
  });
});

check('a flush asks the device, whoever wrote: when it fails, the one who flushed is told', async () => {
  await serving({ faults: [{ op: 'sync', errno: EIO }] }, async (server) => {
    const [writer, other] = [await server.connect(), await server.connect()];
    await writer.write(0, pattern(4096, 1));
    assert.is(await other.errorOf({ type: CMD.flush }), EIO);
    // What was acknowledged may be lost, so nobody may go on as if nothing had happened.
    assert.is(await writer.errorOf({ type: CMD.write, offset: 0, payload: pattern(4096, 2) }), EIO);
    assert.is(await writer.errorOf({ type: CMD.flush }), EIO);
    await Promise.all([writer.disconnect(), other.disconnect()]);
    const closed = await server.closeServer().catch((error: { errno?: number }) => error.errno);
    assert.is(closed, EIO, 'who closes the server is told as well');
  });
});

for (const [what, request] of [
  ['a write', { type: CMD.write, offset: 0, payload: pattern(4096, 1) }],
  ['a write of parts of blocks', { type: CMD.write, offset: 100, payload: pattern(100, 1) }],
  ['zeroing', { type: CMD.writeZeroes, offset: 0, length: 4096 }],
  ['trimming', { type: CMD.trim, offset: 0, length: 4096 }],
] as const) {
  check(`FUA of ${what} reaches the device`, async () => {
    // A device that cannot make something durable takes no more writes, one that fails a write does; so it shows which it was.
    const faults = ['write', 'zero', 'discard'].map((op) => ({ op, end: 4096, count: 2, errno: EIO }));
    await serving({ faults }, async (server) => {
      const client = await server.connect();
      const elsewhere = { type: CMD.write, offset: 8192, payload: pattern(512, 2) };
      assert.is(await client.errorOf(request), EIO);
      assert.is(await client.errorOf(elsewhere), 0);
      assert.is(await client.errorOf({ ...request, flags: FLAG.fua }), EIO);
      assert.is(await client.errorOf(elsewhere), EIO);
      await client.disconnect();
      await server.closeServer().catch(() => {});
    });
  });
}

check('a failing device gives errors for what failed, and for nothing else', async () => {
  const content = pattern(8 * MIB, 10);
  const faults = [{ op: 'read', start: 4 * MIB, end: 4 * MIB + 4096, errno: EIO }];
  await served({ content, faults }, async (server) => {
    for (const { structured, flags } of MODES) {
      const client = await server.connect({ structured });
      const bad = { type: CMD.read, flags, offset: 4 * MIB + 100, length: 100 };
      const good = { type: CMD.read, flags, offset: 6 * MIB, length: MIB };
      const [first, second, third] = await client.askAll([good, bad, good]);
      assert.equal([first.error, second.error, third.error], [0, EIO, 0]);
      same(third.data, content.subarray(6 * MIB, 7 * MIB), 'the read after the failure');
      await client.disconnect();
    }
    // A large read in chunks can say which part failed.
    const client = await server.connect({ structured: true });
    assert.is(await client.errorOf({ type: CMD.read, offset: 0, length: 8 * MIB }), EIO);
    await client.read(0, 4096);
    await client.disconnect();
    // One reply that has begun with a promise can only be broken off.
    const simple = await server.connect();
    const error = await simple.errorOf({ type: CMD.read, offset: 0, length: 8 * MIB }).catch((end: Error) => end);
    assert.ok(error === EIO || error instanceof Error);
    await simple.destroy();
  });
});

check('what is at the end of the device is served, and what lies behind it is refused', async () => {
  const size = MIB;
  await served({ content: size }, async (server) => {
    for (const structured of [false, true]) {
      const client = await server.connect({ structured });
      await client.write(size - 1, Buffer.of(7));
      assert.is((await client.read(size - 1, 1))[0], 7);
      const past = [
        [size, 1],
        [size - 1, 2],
        [0, size + 1],
        [size + 4096, 4096],
      ];
      for (const [offset, length] of past) {
        for (const type of [CMD.read, CMD.cache]) assert.is(await client.errorOf({ type, offset, length }), EINVAL);
        for (const type of [CMD.trim, CMD.writeZeroes]) {
          assert.is(await client.errorOf({ type, offset, length }), ENOSPC);
        }
        assert.is(await client.errorOf({ type: CMD.write, offset, payload: Buffer.alloc(length, 1) }), ENOSPC);
      }
      await client.disconnect();
    }
  });
});

/** Pipelined requests of all kinds, more than a connection may have in flight. */
function crowd(): Request[] {
  const requests: Request[] = [];
  for (let number = 0; number < 300; number += 1) {
    const offset = (number % 100) * 4096;
    requests.push({ type: CMD.write, offset: offset + 512 * 1024, payload: pattern(3000, number) });
    requests.push({ type: CMD.read, offset, length: 4096 });
    if (number % 10 === 0) requests.push({ type: CMD.flush });
    if (number % 25 === 0) requests.push({ type: CMD.read, offset: 1, length: MIB - 1 });
  }
  return requests;
}

check('everything asked for before DISC is answered, then the connection closes', async () => {
  await served({ content: pattern(MIB, 11) }, async (server) => {
    for (const structured of [false, true]) {
      const client = await server.connect({ structured });
      const requests = crowd();
      const cookies = client.submitAll(requests);
      const beyond = client.expect({ type: CMD.write, offset: 0, payload: Buffer.alloc(512, 1) });
      const late = Buffer.concat([header({ type: CMD.write, offset: 0, length: 512 }, beyond), Buffer.alloc(512, 1)]);
      client.wire.send(header({ type: CMD.disconnect }, 0n), late);
      succeeded(await client.answers(cookies));
      await client.wire.expectEnd();
    }
    const reader = await server.connect();
    same(await reader.read(0, 4096), pattern(MIB, 11).subarray(0, 4096), 'what came after DISC is not done');
    await reader.disconnect();
  });
});

check('a late write writes what it was given', async () => {
  await serving({ faults: [{ op: 'write', delayMs: 100 }] }, async (server) => {
    const client = await server.connect();
    const cookies: bigint[] = [];
    for (let round = 0; round < 5; round += 1) {
      // Each round is received where the last one was, whose writes have not begun.
      const offset = round * 4096;
      cookies.push(client.submit({ type: CMD.write, offset, payload: pattern(4096, round) }));
      const taken = async () => (await server.figures()).requests === round + 1;
      await until('the write to be taken', taken);
    }
    succeeded(await client.answers(cookies));
    for (let round = 0; round < 5; round += 1)
      same(await client.read(round * 4096, 4096), pattern(4096, round), 'late');
    await client.disconnect();
  });
});

check('what is in flight when the server is closed is answered', async () => {
  const content = pattern(MIB, 12);
  const faults = [{ op: 'read', delayMs: 500 }];
  await serving({ content, faults }, async (server) => {
    const clients = [await server.connect(), await server.connect({ structured: true })];
    const requests = Array.from({ length: 100 }, (_, index) => ({
      type: CMD.read,
      offset: index * 4096,
      length: 4096,
    }));
    const cookies = clients.map((client) => client.submitAll(requests));
    await until('all requests to be taken', async () => (await server.figures()).requests === 200);
    const closed = server.closeServer();
    for (const [index, client] of clients.entries()) {
      for (const { error, data, request } of await client.answers(cookies[index])) {
        assert.is(error, 0);
        same(data, content.subarray(Number(request.offset)).subarray(0, 4096), 'a late answer');
      }
      await client.wire.expectEnd();
    }
    await closed;
    const refused = await NbdClient.dial(server.socket).catch((error: Error) => error);
    assert.instance(refused, Error, 'nobody is served any more');
  });
});

/** Begins a write and holds back a part of its payload, so that it keeps its buffer. */
async function halfWrite(client: NbdClient, offset: number, payload: Buffer): Promise<() => Promise<Answer>> {
  const request = { type: CMD.write, offset, payload };
  const cookie = client.expect(request);
  client.wire.send(header(request, cookie), payload.subarray(0, payload.length / 2));
  return () => {
    client.wire.send(payload.subarray(payload.length / 2));
    return client.answer(cookie);
  };
}

for (const { mode, structured, flags } of MODES) {
  check(`a large read that begins with a small piece keeps to its buffers, replies ${mode}`, async () => {
    const content = pattern(40 * MIB, 9);
    await served({ content }, async (server) => {
      const [reader, first, second] = [
        await server.connect({ structured }),
        await server.connect(),
        await server.connect(),
      ];
      const held = async () => (await server.figures()).buffersInUse;
      // The buffers of both lie side by side, and the one that comes free first is where the reader begins.
      const endFirst = await halfWrite(first, 39 * MIB, pattern(4096, 10));
      await until('the first buffer', async () => (await held()) === 1);
      const payload = pattern(4096, 11);
      const endSecond = await halfWrite(second, 39 * MIB + 4096, payload);
      await until('the second buffer', async () => (await held()) === 2);
      succeeded([await endFirst()]);
      const offset = MIB - 4096;
      same(await reader.read(offset, PAYLOAD_MAX, flags), content.subarray(offset, offset + PAYLOAD_MAX), 'the read');
      succeeded([await endSecond()]);
      same(await reader.read(39 * MIB + 4096, 4096, flags), payload, 'the write');
      for (const client of [reader, first, second]) await client.disconnect();
    });
  });
}

run();
