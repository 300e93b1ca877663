/** Handshakes that are too long, falsified, broken off, or never end. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import {
  CMD,
  contextData,
  FLAGS_USUAL,
  INFO,
  infoData,
  NbdClient,
  OPT,
  option,
  REP,
  u16,
  u32,
} from '../support/nbd-client.js';
import { goesOn } from '../support/nbd-handshake.js';
import { type Served, served } from '../support/served.js';

const MIB = 1 << 20;
check('options too long to be of interest are skipped and refused', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    for (const length of [8193, 16 << 10, (16 << 10) + 1, 100_000, MIB]) {
      for (const number of [OPT.go, OPT.list, OPT.setMetaContext, 99]) {
        assert.is(await client.verdict(number, Buffer.alloc(length)), REP.tooBig, `${length} bytes`);
      }
    }
    await goesOn(client);
  });
});

check('options too long to be honest close at once, before their data', async () => {
  await served({}, async (server) => {
    for (const length of [MIB + 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
      for (const number of [OPT.exportName, OPT.go, OPT.startTls, 99]) {
        const client = await server.greet();
        client.wire.send(option(number, Buffer.alloc(0), length));
        await client.wire.expectEnd();
        await client.destroy();
      }
    }
    const sender = await server.greet();
    const sent = sender.wire.push(option(99, Buffer.alloc(MIB + 1)), option(OPT.list));
    await sender.wire.expectEnd();
    await sent;
    const client = await server.greet();
    client.wire.send(option(OPT.exportName, Buffer.alloc(9000)));
    await client.wire.expectEnd();
  });
});

check('lengths within an option that contradict its own are refused', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    const bad = [
      Buffer.concat([u32(1), u16(0)]),
      Buffer.concat([u32(0xffffffff), u16(0)]),
      Buffer.concat([u32(0xfffffffa), u16(0), Buffer.alloc(10)]),
      Buffer.concat([u32(0), u16(1)]),
      Buffer.concat([u32(0), u16(0xffff), u16(1)]),
      Buffer.concat([u32(0), u16(0), u16(1)]),
      Buffer.concat([u32(3), Buffer.from('ab'), u16(0)]),
    ];
    for (const data of bad) {
      assert.is(await client.verdict(OPT.info, data), REP.invalid);
      assert.is(await client.verdict(OPT.go, data), REP.invalid);
    }
    assert.is(await client.verdict(OPT.go, infoData('x'.repeat(4097))), REP.tooBig);
    await client.haggle(OPT.structuredReply);
    client.structured = true;
    const badContexts = [
      Buffer.concat([u32(0xffffffff), u32(0)]),
      Buffer.concat([u32(1), u32(0)]),
      Buffer.concat([u32(0), u32(1)]),
      Buffer.concat([u32(0), u32(0xffffffff), Buffer.alloc(8000)]),
      Buffer.concat([u32(0), u32(1), u32(0xffffffff), Buffer.alloc(4)]),
      Buffer.concat([u32(0), u32(1), u32(5), Buffer.alloc(4)]),
      Buffer.concat([contextData('', ['base:allocation']), Buffer.alloc(1)]),
      contextData('x'.repeat(4097), []),
    ];
    for (const data of badContexts) {
      assert.is(await client.verdict(OPT.listMetaContext, data), REP.invalid);
      assert.is(await client.verdict(OPT.setMetaContext, data), REP.invalid);
    }
    await goesOn(client);
  });
});

check('option data that is too short is refused at every length', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    await client.haggle(OPT.structuredReply);
    client.structured = true;
    const info = infoData('disk', [INFO.name]);
    for (let length = 0; length < info.length; length += 1) {
      assert.is(await client.verdict(OPT.go, info.subarray(0, length)), REP.invalid, `${length} bytes`);
    }
    const context = contextData('', ['base:allocation']);
    for (let length = 0; length < context.length; length += 1) {
      assert.is(await client.verdict(OPT.setMetaContext, context.subarray(0, length)), REP.invalid, `${length} bytes`);
    }
    await goesOn(client);
  });
});

/** Counts the options of a flood that are answered before the connection is closed. */
async function flood(server: Served, one: Buffer): Promise<number> {
  const client = await server.greet();
  const sent = client.wire.push(...new Array<Buffer>(400).fill(one));
  let replies = 0;
  try {
    for (;;) {
      const { type } = await client.optionReply();
      if (type === REP.ack || type >= REP.unsupported) replies += 1;
    }
  } catch {
    // The end of the stream, which ends the handshake.
  }
  await client.destroy();
  await sent;
  return replies;
}

check('a flood of options ends the connection', async () => {
  await served({}, async (server) => {
    assert.is(await flood(server, option(99)), 128);
    assert.is(await flood(server, option(OPT.list)), 128);
    assert.is(await flood(server, option(OPT.info, infoData(''))), 128);
    assert.is(await flood(server, option(OPT.go, Buffer.alloc(20_000))), 128);
  });
});

check('a flood whose replies nobody reads costs nothing', async () => {
  await served({ description: 'd'.repeat(1024) }, async (server) => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => server.greet()));
    for (const { wire } of clients) wire.send(...new Array<Buffer>(128).fill(option(OPT.list)));
    await server.honest();
    assert.is((await server.figures()).buffersInUse, 0);
    await Promise.all(clients.map((client) => client.destroy()));
  });
});

check('wrong magic numbers and unknown client flags close', async () => {
  await served({}, async (server) => {
    for (const flags of [4, 0x80000003, 0xffffffff]) {
      const client = await server.greet(flags);
      await client.wire.expectEnd();
      await client.destroy();
    }
    const good = option(OPT.list);
    for (let bit = 0; bit < 64; bit += 1) {
      const bad = Buffer.from(good);
      bad[bit >> 3] ^= 1 << (bit & 7);
      const client = await server.greet();
      client.wire.send(bad);
      await client.wire.expectEnd();
      await client.destroy();
    }
  });
});

/** What an honest client says up to its first request. */
function conversation(): Buffer {
  return Buffer.concat([
    u32(FLAGS_USUAL),
    option(OPT.structuredReply),
    option(OPT.setMetaContext, contextData('disk', ['base:allocation'])),
    option(OPT.info, infoData('disk', [INFO.description])),
    option(OPT.go, infoData('disk', [INFO.name])),
  ]);
}

check('a client that leaves after any byte of the handshake leaves nothing behind', async () => {
  await served({ name: 'disk' }, async (server) => {
    const said = conversation();
    const greetedFirst = async (bytes: Buffer, reset: boolean) => {
      const client = await NbdClient.dial(server.socket);
      if (reset) await client.wire.read(18);
      await client.wire.push(bytes);
      // Half of them say that they leave, the others are gone with replies unread.
      if (reset) await client.destroy();
      else client.wire.socket.end();
      await client.wire.drain();
      await client.destroy();
    };
    for (let length = 0; length <= said.length; length += 1) {
      await Promise.all([greetedFirst(said.subarray(0, length), true), greetedFirst(said.subarray(0, length), false)]);
    }
  });
});

check('a handshake that comes byte by byte is understood', async () => {
  await served({ name: 'disk' }, async (server) => {
    const client = await NbdClient.dial(server.socket);
    await client.wire.read(18);
    await client.wire.dribble(conversation());
    for (const number of [OPT.structuredReply, OPT.setMetaContext, OPT.info, OPT.go]) {
      const replies = await client.optionReplies(number);
      assert.is(replies[replies.length - 1].type, REP.ack);
    }
    client.structured = true;
    assert.is(await client.errorOf({ type: CMD.blockStatus, offset: 0, length: 4096 }), 0);
    await client.disconnect();
  });
});

check('beyond the most connections GO is refused and EXPORT_NAME closes, until one leaves', async () => {
  await served({ connectionsMax: 3 }, async (server) => {
    const [first, ...others] = await Promise.all([1, 2, 3].map(() => server.connect()));
    const late = await server.greet();
    assert.is(await late.verdict(OPT.go, infoData('')), REP.policy);
    assert.is((await late.haggle(OPT.info, infoData(''))).at(-1)?.type, REP.ack);
    const later = await server.greet();
    later.wire.send(option(OPT.exportName));
    await later.wire.expectEnd();
    await first.disconnect();
    await goesOn(late);
    for (const client of others) await client.disconnect();
  });
});

run();
