/** Many clients at once, and clients that hold on to what others wait for. */

import { readdirSync, readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { CONTENT, EVIL, ranged } from '../support/nbd-attack.js';
import { CMD, FLAGS_USUAL, header, infoData, NbdClient, OPT, option, u32 } from '../support/nbd-client.js';
import { Wire } from '../support/nbd-wire.js';
import { scratchFile, until } from '../support/scratch.js';
import { served } from '../support/served.js';
import { exportDevice } from '../support/strake.js';

const MIB = 1 << 20;
check('idle and slow connections do not hurt others', async () => {
  await served({ content: CONTENT }, async (server) => {
    const serving = await Promise.all(Array.from({ length: 60 }, () => server.connect()));
    const silent = await Promise.all(Array.from({ length: 60 }, () => Wire.open(server.socket)));
    const greeted = await Promise.all(Array.from({ length: 60 }, () => server.greet()));
    const payload = Buffer.alloc(700, 0x11);
    const slow = serving.slice(0, 10).map(async (client, index) => {
      const request = { type: CMD.write, offset: 65_536 + index * 1000, payload };
      const cookie = client.expect(request);
      await client.wire.dribble(Buffer.concat([header(request, cookie), payload]));
      return (await client.answer(cookie)).error;
    });
    for (let round = 0; round < 5; round += 1) await server.honest();
    assert.equal(await Promise.all(slow), new Array(10).fill(0), 'the slow are served too');
    const figures = await server.figures();
    assert.is(figures.connections, 180);
    assert.is(figures.buffersInUse, 0, 'who asks for nothing holds nothing');
    await serving[59].read(0, 512);
    await Promise.all([...greeted, ...serving, ...silent].map((one) => one.destroy()));
  });
});

/** Opens a socket; where too many wait already to be accepted, tries again. */
async function dial(socket: string): Promise<Wire> {
  for (;;) {
    try {
      return await Wire.open(socket);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** Runs `body` for the numbers below `count`, some at a time. */
async function inLanes(count: number, lanes: number, body: (number: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) {
      next += 1;
      await body(next - 1);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

check('thousands of sockets at once displace only each other', async () => {
  await served({ content: CONTENT }, async (server) => {
    const established = await server.connect();
    const sockets: Wire[] = [];
    let flooding = true;
    const work = (async () => {
      let rounds = 0;
      while (flooding) {
        await established.write(65_536, Buffer.alloc(512, rounds % 50));
        rounds += 1;
      }
      return rounds;
    })();
    // If the test fails before it waits for this, it is not what failed.
    work.catch(() => {});
    await inLanes(3000, 100, async () => {
      sockets.push(await dial(server.socket));
    });
    const figures = await server.figures();
    assert.ok(figures.handshakes <= 128, `${figures.handshakes} handshakes`);
    assert.ok(figures.connections <= 128 + 1 + 100, `${figures.connections} connections`);
    await server.honest();
    flooding = false;
    assert.ok((await work) > 10, 'who was there before was served meanwhile');
    await established.disconnect();
    await inLanes(sockets.length, 100, (number) => sockets[number].destroy());
  });
});

check('when all places are taken newcomers are turned away, until some leave', async () => {
  await served({ content: CONTENT }, async (server) => {
    const clients: NbdClient[] = [];
    await inLanes(512, 20, async () => {
      clients.push(await server.connect());
    });
    for (let number = 0; number < 20; number += 1) {
      const newcomer = await dial(server.socket);
      await newcomer.expectEnd();
      await newcomer.destroy();
    }
    await inLanes(512, 20, async (number) => {
      await clients[number].read(0, 512);
    });
    await inLanes(3, 3, (number) => clients[number].disconnect());
    await server.honest();
    await inLanes(509, 20, (number) => clients[number + 3].disconnect());
  });
});

/** Peers that do not read their replies, or do not send their payloads, are dropped when others wait for what they hold. */
async function dropDeafAndMute(): Promise<void> {
  await served({ content: Buffer.alloc(8 * MIB, 0xa5) }, async (server) => {
    const { stalled } = await server.figures();
    const deaf = await Promise.all(Array.from({ length: 4 }, () => server.connect()));
    for (const [index, client] of deaf.entries()) {
      const length = index < 2 ? 7 * MIB : 60_000;
      client.submitAll(Array.from({ length: 256 }, (_, number) => ranged(CMD.read, number, length)));
    }
    // These take the buffers that the others have left.
    const mute = await Promise.all(Array.from({ length: 60 }, () => server.connect()));
    for (const client of mute) await client.wire.push(header(ranged(CMD.write, 0, MIB), 1n), Buffer.alloc(5000, EVIL));
    const honest = await server.connect({ structured: true });
    assert.is((await honest.read(0, 8 * MIB)).length, 8 * MIB);
    await honest.write(MIB, Buffer.alloc(6 * MIB, 1));
    await honest.disconnect();
    assert.ok((await server.figures()).stalled > stalled, 'some were dropped');
    await Promise.all([...deaf, ...mute].map((client) => client.destroy()));
    await server.atRest();
  });
}

/** Who does not finish the handshake in time is dropped, who does is not. */
async function dropLateHandshakes(): Promise<void> {
  await served({}, async (server) => {
    const silent = await Wire.open(server.socket);
    const greeted = await server.greet();
    const half = await server.greet();
    half.wire.send(option(OPT.go, infoData('')).subarray(0, 20));
    const idle = await server.connect();
    const ends = [silent.drain(), greeted.wire.drain(), half.wire.drain()];
    assert.equal(await Promise.all(ends), [18, 0, 0]);
    await idle.read(0, 512);
    await idle.disconnect();
  });
}

check('who keeps others waiting too long is dropped, and nobody else', async () => {
  // Both take seconds of waiting, so they do it together.
  await Promise.all([dropDeafAndMute(), dropLateHandshakes()]);
});

/** Descriptors of a process. */
function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}

async function honestTo(socket: string): Promise<void> {
  const client = await NbdClient.connect(socket, { structured: true });
  const data = Buffer.alloc(9000, 0x42);
  await client.write(5000, data);
  await client.flush();
  assert.ok((await client.read(5000, data.length)).equals(data));
  await client.disconnect();
}

/** Comes, goes some way, and is gone. */
async function visit(socket: string, number: number): Promise<void> {
  const wire = await dial(socket);
  const stages = [
    Buffer.alloc(0),
    u32(FLAGS_USUAL),
    option(OPT.structuredReply).subarray(0, 9),
    option(OPT.structuredReply).subarray(9),
    option(OPT.go, infoData('')),
    header(ranged(CMD.read, 0, 100_000), 1n),
    header(ranged(CMD.write, 0, 50_000), 2n),
    Buffer.alloc(20_000, EVIL),
  ];
  const bytes = Buffer.concat(stages.slice(0, 1 + (number % stages.length)));
  if (bytes.length > 0) wire.send(bytes);
  if (number % 3 === 0) await wire.read(18).catch(() => {});
  await wire.destroy();
}

check('10,000 connections made and dropped leave no descriptor open and nothing in use', async () => {
  const server = await exportDevice(scratchFile(MIB));
  const pid = server.child.pid as number;
  await honestTo(server.socket);
  const before = descriptors(pid);
  await inLanes(10_000, 50, (number) => visit(server.socket, number));
  await honestTo(server.socket);
  await until('the descriptors to be closed', () => descriptors(pid) <= before);
  assert.is((await server.stop()).code, 0);
});

check('buffers, requests and connections are back after 2,000 visits', async () => {
  await served({ content: CONTENT }, async (server) => {
    const { files } = await server.device.stats();
    await inLanes(2000, 50, (number) => visit(server.socket, number));
    await server.honest();
    await server.atRest();
    await until('the files to be closed', async () => (await server.device.stats()).files === files);
    await until('all but the accept to end', async () => (await server.device.stats()).operationsInFlight <= 2);
  });
});

check('the memory of a server whose peers do not read is bounded', async () => {
  const server = await exportDevice(scratchFile(64 * MIB));
  const pid = server.child.pid as number;
  const warm = await NbdClient.connect(server.socket);
  for (let round = 0; round < 4; round += 1) await warm.askAll(new Array(8).fill(ranged(CMD.read, 0, 32 * MIB)));
  await warm.disconnect();
  const before = residentBytes(pid);
  const deaf = await Promise.all(Array.from({ length: 100 }, () => NbdClient.connect(server.socket)));
  for (const client of deaf) {
    const requests = Array.from({ length: 200 }, () => header(ranged(CMD.read, 0, 32 * MIB), 1n));
    await client.wire.push(...requests);
  }
  await honestTo(server.socket);
  const grown = residentBytes(pid) - before;
  assert.ok(grown < 64 * MIB, `625 GiB were asked for, and memory grew by ${grown} bytes`);
  await Promise.all(deaf.map((client) => client.destroy()));
  await honestTo(server.socket);
  assert.is((await server.stop()).code, 0);
});

run();
