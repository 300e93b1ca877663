/**
 * What hostile and broken clients do to the NBD server. Each attack ends with an honest client that is served, and with
 * nothing held on to (`served`); where it says so, an honest client is served while the attack goes on.
 */

import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { serveNbd } from '#strake/index.js';
import { check, run } from '../support/check.js';
import { CONTENT, EVIL, ranged } from '../support/nbd-attack.js';
import {
  CMD,
  EINVAL,
  ENOSPC,
  EPERM,
  FLAG,
  header,
  infoData,
  NbdClient,
  OPT,
  option,
  REP,
  type Request,
  TX,
  u32,
} from '../support/nbd-client.js';
import { socketPath, until } from '../support/scratch.js';
import { type Served, served, serving } from '../support/served.js';

const MIB = 1 << 20;
const MODIFYING = [CMD.write, CMD.trim, CMD.writeZeroes];
const RANGED = [CMD.read, CMD.write, CMD.trim, CMD.cache, CMD.writeZeroes, CMD.blockStatus];

/** The device is as it was, but for the blocks that honest clients write. */
async function untouched(server: Served): Promise<void> {
  const client = await server.connect();
  const data = await client.read(0, client.sizeBytes);
  assert.not.ok(data.includes(EVIL), 'nothing of the attack has reached the device');
  await client.disconnect();
}

check('ranges beyond the device and beyond 2^64 are refused, whatever is done to them', async () => {
  await served({ content: CONTENT }, async (server) => {
    const offsets = [2n ** 64n - 1n, 2n ** 64n - 512n, 2n ** 64n - 4096n, 2n ** 63n, 2n ** 63n - 1n, 2n ** 53n + 1n];
    const wrapped = [2n ** 32n, 2n ** 32n + 4096n, 2n ** 52n, BigInt(MIB), BigInt(MIB) - 1n];
    for (const structured of [false, true]) {
      const client = await server.connect({ structured });
      for (const offset of [...offsets, ...wrapped]) {
        for (const type of RANGED) {
          const requests = [512, 4096, 70_000].map((length) => ranged(type, offset, length));
          for (const { error } of await client.askAll(requests)) {
            assert.is(error, MODIFYING.includes(type as 1) ? ENOSPC : EINVAL, `command ${type} at ${offset}`);
          }
        }
      }
      await client.disconnect();
    }
    await untouched(server);
  });
});

check('lengths that no device has are refused', async () => {
  await served({ content: CONTENT }, async (server) => {
    for (const structured of [false, true]) {
      const client = await server.connect({ structured });
      for (const length of [0, 32 * MIB + 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
        for (const type of RANGED.filter((one) => one !== CMD.write || length === 0)) {
          const error = await client.errorOf({ type, offset: 0, length });
          assert.is(error, length > 0 && MODIFYING.includes(type as 1) ? ENOSPC : EINVAL, `${type}: ${length} bytes`);
        }
        assert.is(await client.errorOf({ type: CMD.flush, length: length || 1 }), EINVAL);
        assert.is(await client.errorOf({ type: CMD.flush, offset: length || 1 }), EINVAL);
      }
      await client.disconnect();
    }
    await untouched(server);
  });
});

check('a write that announces 4 GiB is refused, and costs no memory while its payload comes', async () => {
  await served({ content: CONTENT }, async (server) => {
    const client = await server.connect();
    const cookie = client.submit({ type: CMD.write, offset: 0, length: 0xffffffff });
    assert.is((await client.answer(cookie)).error, ENOSPC);
    for (let sent = 0; sent < 64; sent += 1) await client.wire.push(Buffer.alloc(MIB, EVIL));
    assert.is((await server.figures()).buffersInUse, 0);
    await server.honest();
    await client.destroy();
    await untouched(server);
  });
});

check('the payload of a refused write is not taken for requests', async () => {
  await served({ content: CONTENT }, async (server) => {
    const evil = Buffer.concat([
      header({ type: CMD.writeZeroes, offset: 0, length: 4096 }, 1n),
      header({ type: CMD.write, offset: 0, length: 28 }, 2n),
      Buffer.alloc(28, EVIL),
    ]);
    const payload = Buffer.concat(new Array<Buffer>(5000).fill(evil));
    const bad: Request[] = [
      { type: CMD.write, offset: MIB, payload },
      { type: CMD.write, flags: 0x8000, offset: 0, payload: evil },
      { type: CMD.write, offset: 2n ** 64n - 1n, payload: evil },
    ];
    for (const structured of [false, true]) {
      const client = await server.connect({ structured });
      const errors = (await client.askAll([...bad, ranged(CMD.read, 0, 512)])).map(({ error }) => error);
      assert.equal(errors, [ENOSPC, EINVAL, ENOSPC, 0]);
      await client.disconnect();
    }
    await untouched(server);
  });
});

check('unknown commands are refused', async () => {
  await served({ content: CONTENT }, async (server) => {
    for (const structured of [false, true]) {
      const client = await server.connect({ structured });
      for (const type of [8, 9, 16, 255, 256, 258, 0x7fff, 0x8000, 0xffff]) {
        assert.is(await client.errorOf({ type, offset: 0, length: 0 }), EINVAL);
        assert.is(await client.errorOf({ type, flags: 0xffff, offset: 2n ** 64n - 1n, length: 0xffffffff }), EINVAL);
      }
      await client.disconnect();
    }
  });
});

check('unknown flags, and those of other commands, are refused', async () => {
  await served({ content: CONTENT }, async (server) => {
    const allowed = new Map<number, number>([
      [CMD.read, FLAG.fua | FLAG.df],
      [CMD.writeZeroes, FLAG.fua | FLAG.noHole | FLAG.fastZero],
      [CMD.blockStatus, FLAG.fua | FLAG.one],
    ]);
    for (const structured of [false, true]) {
      const client = await server.connect({ structured });
      for (const type of [...RANGED, CMD.flush]) {
        for (let bit = 0; bit < 16; bit += 1) {
          const known = (allowed.get(type) ?? FLAG.fua) & ~(structured ? 0 : FLAG.df);
          if ((known & (1 << bit)) !== 0) continue;
          const request = type === CMD.flush ? { type, flags: 1 << bit } : ranged(type, 0, 512, 1 << bit);
          assert.is(await client.errorOf(request), EINVAL, `command ${type}, bit ${bit}`);
        }
      }
      await client.disconnect();
    }
    await untouched(server);
  });
});

check('a request in the handshake, and an option among requests, close', async () => {
  await served({ content: CONTENT }, async (server) => {
    const early = await server.greet();
    early.wire.send(header(ranged(CMD.write, 0, 512), 1n), Buffer.alloc(512, EVIL));
    await early.wire.expectEnd();
    const garbage = [option(OPT.go, infoData('')), Buffer.alloc(28), Buffer.alloc(28, 0xff), u32(0x67446698)];
    for (const bytes of garbage) {
      const client = await server.connect();
      client.wire.send(bytes, Buffer.alloc(28, EVIL));
      await client.wire.expectEnd();
      await client.destroy();
    }
    await untouched(server);
  });
});

check('every bit of the magic number of a request counts', async () => {
  await served({ content: CONTENT }, async (server) => {
    for (let bit = 0; bit < 32; bit += 1) {
      const client = await server.connect();
      const bad = header(ranged(CMD.writeZeroes, 0, 512), 1n);
      bad[bit >> 3] ^= 1 << (bit & 7);
      client.wire.send(bad);
      await client.wire.expectEnd();
      await client.destroy();
    }
    const reader = await server.connect();
    assert.ok((await reader.read(0, 512)).equals(CONTENT.subarray(0, 512)));
    await reader.disconnect();
  });
});

check('requests with the same cookie are answered each', async () => {
  await served({ content: CONTENT }, async (server) => {
    const client = await server.connect();
    const one = header({ type: CMD.flush }, 7n);
    client.wire.send(...new Array<Buffer>(300).fill(one));
    const replies = await client.wire.read(300 * 16);
    for (let at = 0; at < replies.length; at += 16) assert.is(replies.readBigUInt64BE(at + 8), 7n);
    await client.disconnect();
  });
});

check('a write whose payload breaks off changes nothing that was not sent whole', async () => {
  await served({ content: Buffer.alloc(4 * MIB, 0xa5) }, async (server) => {
    const cut = [
      [100, 99],
      [4096, 0],
      [60_000, 59_999],
      [MIB, MIB - 1],
      [MIB, 20_000],
    ];
    for (const [length, sent] of cut) {
      const client = await server.connect();
      await client.wire.push(header(ranged(CMD.write, MIB, length), 1n), Buffer.alloc(sent, EVIL));
      await client.destroy();
    }
    // Of a write in several pieces, those that have come may be written.
    const client = await server.connect();
    await client.wire.push(header(ranged(CMD.write, 0, 3 * MIB), 1n), Buffer.alloc(MIB + 5000, EVIL));
    await client.destroy();
    await server.atRest();
    const reader = await server.connect();
    assert.not.ok((await reader.read(MIB, 3 * MIB)).includes(EVIL));
    await reader.disconnect();
  });
});

check('a server closed in the middle of payloads gives each connection back, and only once', async () => {
  await serving({ content: CONTENT }, async (server) => {
    const cut = await Promise.all([1, 2, 3].map(() => server.connect()));
    for (const client of cut) client.wire.send(header(ranged(CMD.write, 0, MIB), 1n), Buffer.alloc(5000, EVIL));
    await until('the payloads to begin', async () => (await server.figures()).buffersInUse === cut.length);
    await server.server.close();
    for (const client of cut) await client.wire.expectEnd();
    await server.atRest();
    const socket = socketPath();
    const next = await serveNbd(server.device, { socket });
    const clients = await Promise.all([1, 2, 3, 4, 5, 6].map(() => NbdClient.greet(socket)));
    for (const client of clients) assert.is(await client.verdict(OPT.structuredReply), REP.ack);
    for (const client of clients) await client.handshake({});
    assert.is((await server.figures()).connections, clients.length);
    for (const client of clients) await client.disconnect();
    await next.close();
    assert.not.ok(readFileSync(server.file).includes(EVIL));
  });
});

check('a client that leaves after any byte of a request leaves nothing behind', async () => {
  await served({ content: CONTENT }, async (server) => {
    const write = Buffer.concat([header(ranged(CMD.write, 8192, 100), 1n), Buffer.alloc(100, EVIL)]);
    for (let sent = 0; sent < write.length; sent += 1) {
      const client = await server.connect({ structured: sent % 2 === 0 });
      await client.wire.push(write.subarray(0, sent));
      await client.destroy();
    }
    await server.atRest();
    await untouched(server);
  });
});

check('clients that leave with replies on their way leave nothing behind', async () => {
  await served({ content: Buffer.alloc(8 * MIB, 0xa5) }, async (server) => {
    for (let round = 0; round < 60; round += 1) {
      const client = await server.connect({ structured: round % 2 === 0 });
      const flags = round % 4 === 0 ? FLAG.df : 0;
      const requests = Array.from({ length: 1 + round }, (_, index) =>
        ranged(CMD.read, index * 4096, 512 << (round % 14)),
      );
      requests.push(ranged(CMD.read, 1, 7 * MIB, flags), ranged(CMD.read, 2, 7 * MIB, flags));
      requests.push(ranged(CMD.trim, MIB, MIB), { type: CMD.flush }, ranged(CMD.cache, 0, MIB));
      client.submitAll(requests);
      // Some leave at once, some in the middle of the replies, some after a goodbye that they do not wait for.
      if (round % 3 === 0) await client.wire.read(100 * round + 1);
      if (round % 3 === 1) client.wire.send(header({ type: CMD.disconnect }, 0n));
      await client.destroy();
    }
    await server.atRest();
  });
});

/** Each way in which something may be modified, and one in which a write may be hidden. */
async function tryToModify(client: NbdClient): Promise<void> {
  for (const flags of [0, FLAG.fua]) {
    for (const type of MODIFYING) {
      for (const length of [1, 512, 4096, 100_000]) {
        assert.is(await client.errorOf(ranged(type, 0, length, flags)), EPERM, `command ${type}`);
      }
    }
  }
  assert.is(await client.errorOf(ranged(CMD.writeZeroes, 0, 4096, FLAG.noHole)), EPERM);
  assert.is(await client.errorOf({ type: CMD.write, offset: 0, payload: Buffer.alloc(40 * MIB, EVIL) }), EPERM);
  const hidden = header(ranged(CMD.writeZeroes, 0, 4096), 9n);
  assert.is(await client.errorOf({ type: CMD.write, offset: 0, payload: hidden }), EPERM);
  assert.is(await client.errorOf({ type: CMD.flush }), 0);
}

for (const [what, options] of [
  ['device', { readOnly: true }],
  ['export', { exportReadOnly: true }],
] as const) {
  check(`nothing gets through to a read-only ${what}`, async () => {
    await served({ content: CONTENT, ...options }, async (server) => {
      for (const structured of [false, true]) {
        const client = await server.connect({ structured });
        assert.is(client.flags & (TX.readOnly | TX.flush | TX.fua | TX.trim | TX.writeZeroes), TX.readOnly);
        await tryToModify(client);
        assert.ok((await client.read(0, MIB)).equals(CONTENT));
        await client.disconnect();
      }
      assert.ok(readFileSync(server.file).equals(CONTENT), 'the file is as it was');
    });
  });
}

run();
