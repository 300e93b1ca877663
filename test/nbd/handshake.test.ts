/** The handshake of the NBD server, option by option, with honest and with hostile bytes. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import {
  CMD,
  contextData,
  counted,
  EINVAL,
  FLAG_NO_ZEROES,
  FLAGS_USUAL,
  INFO,
  infoData,
  type NbdClient,
  OPT,
  type OptionReply,
  option,
  REP,
  TX,
} from '../support/nbd-client.js';
import { DESCRIPTION, goesOn } from '../support/nbd-handshake.js';
import { type Served, served } from '../support/served.js';

const MIB = 1 << 20;
const USUAL_FLAGS = TX.hasFlags | TX.flush | TX.fua | TX.trim | TX.writeZeroes | TX.multiConn | TX.cache;
/** The content of an information reply, or undefined if there is none of this type. */
function info(replies: readonly OptionReply[], type: number): Buffer | undefined {
  return replies.find((one) => one.type === REP.info && one.data.readUInt16BE() === type)?.data.subarray(2);
}

/** Without the flag that depends on the device. */
function flagsOf(data: Buffer, at: number): number {
  return data.readUInt16BE(at) & ~TX.fastZero;
}

for (const [what, flags, zeroes] of [
  ['pads with zeroes', FLAGS_USUAL & ~FLAG_NO_ZEROES, 124],
  ['does not pad where the client said so', FLAGS_USUAL, 0],
] as const) {
  check(`EXPORT_NAME leads to the export, and ${what}`, async () => {
    await served({ name: 'disk' }, async (server) => {
      const client = await server.greet(flags);
      client.wire.send(option(OPT.exportName, Buffer.from('disk')));
      const reply = await client.wire.read(10 + zeroes);
      assert.is(reply.readBigUInt64BE(), BigInt(MIB));
      assert.is(flagsOf(reply, 8), USUAL_FLAGS);
      assert.ok(reply.subarray(10).every((byte) => byte === 0));
      assert.ok((await client.read(0, 4096)).equals(Buffer.alloc(4096)));
      await client.disconnect();
    });
  });
}

check('a request may follow EXPORT_NAME in the same segment', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    client.wire.send(option(OPT.exportName));
    const cookie = client.submit({ type: CMD.read, offset: 0, length: 512 });
    await client.wire.read(10);
    assert.is((await client.answer(cookie)).error, 0);
    await client.disconnect();
  });
});

check('EXPORT_NAME of an unknown export closes', async () => {
  await served({ name: 'disk' }, async (server) => {
    for (const name of ['', 'dis', 'disk ', 'disk\0', 'DISK', '../disk', 'x'.repeat(4096)]) {
      const client = await server.greet();
      client.wire.send(option(OPT.exportName, Buffer.from(name)));
      await client.wire.expectEnd();
      await client.destroy();
    }
  });
});

check('INFO and GO describe the export', async () => {
  await served({ name: 'disk', description: DESCRIPTION }, async (server) => {
    const client = await server.greet();
    for (const number of [OPT.info, OPT.go]) {
      const wanted = [INFO.name, INFO.description, INFO.blockSize, 77, 0xffff];
      const replies = await client.haggle(number, infoData('disk', wanted));
      assert.is(replies[replies.length - 1].type, REP.ack);
      assert.is(replies[replies.length - 1].data.length, 0);
      const described = info(replies, INFO.export) as Buffer;
      assert.is(described.length, 10);
      assert.is(described.readBigUInt64BE(), BigInt(MIB));
      assert.is(flagsOf(described, 8), USUAL_FLAGS);
      const sizes = info(replies, INFO.blockSize) as Buffer;
      assert.equal(
        [0, 4, 8].map((at) => sizes.readUInt32BE(at)).filter((_, index) => index !== 1),
        [1, 32 * MIB],
      );
      assert.ok(sizes.readUInt32BE(4) >= 4096);
      assert.is(String(info(replies, INFO.name)), 'disk');
      assert.is(String(info(replies, INFO.description)), DESCRIPTION);
      const types = replies.slice(0, -1).map(({ data }) => data.readUInt16BE());
      assert.ok(
        types.every((type) => type <= INFO.blockSize),
        'nothing is told that does not exist',
      );
    }
    await client.read(0, 512);
    await client.disconnect();
  });
});

check('INFO and GO of an unknown export are refused, and the client may try again', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    for (const name of ['disk', ' ', '\0', 'x'.repeat(4096)]) {
      assert.is(await client.verdict(OPT.info, infoData(name)), REP.unknown);
      assert.is(await client.verdict(OPT.go, infoData(name)), REP.unknown);
    }
    await goesOn(client);
  });
});

check('a description asked for many times is told once', async () => {
  await served({ name: 'n'.repeat(1024), description: 'd'.repeat(1024) }, async (server) => {
    const client = await server.greet();
    const wanted = new Array<number>(2000).fill(INFO.description);
    const replies = await client.haggle(OPT.info, infoData('n'.repeat(1024), wanted));
    assert.is(replies[replies.length - 1].type, REP.ack);
    assert.is(String(info(replies, INFO.description)), 'd'.repeat(1024));
    assert.is(replies.length, 4);
    const last = await client.haggle(OPT.info, infoData('n'.repeat(1024), [...wanted, INFO.name]));
    assert.is(String(info(last, INFO.name)), 'n'.repeat(1024), 'what is asked for last is told too');
    const listed = await client.haggle(OPT.list);
    assert.is(listed[0].data.length, 4 + 2048);
    await goesOn(client, 'n'.repeat(1024));
  });
});

check('LIST names the export and describes it', async () => {
  await served({ name: 'disk', description: DESCRIPTION }, async (server) => {
    const client = await server.greet();
    const [entry, end, ...others] = await client.haggle(OPT.list);
    assert.is(entry.type, REP.server);
    assert.ok(entry.data.equals(Buffer.concat([counted('disk'), Buffer.from(DESCRIPTION)])));
    assert.is(end.type, REP.ack);
    assert.is(others.length, 0);
    assert.is(await client.verdict(OPT.list, Buffer.from('x')), REP.invalid);
    await goesOn(client, 'disk');
  });
});

check('ABORT is acknowledged and closes', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    assert.is(await client.verdict(OPT.abort), REP.ack);
    await client.wire.expectEnd();
  });
});

check('what follows ABORT is not looked at', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    client.wire.send(option(OPT.abort), option(OPT.list), option(OPT.go, infoData('')));
    assert.equal(
      (await client.optionReplies(OPT.abort)).map(({ type }) => type),
      [REP.ack],
    );
    await client.wire.expectEnd();
  });
});

check('STRUCTURED_REPLY takes no data, and is shown in the flags', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    assert.is(await client.verdict(OPT.structuredReply, Buffer.from('x')), REP.invalid);
    const before = info(await client.haggle(OPT.info, infoData('')), INFO.export) as Buffer;
    assert.is(flagsOf(before, 8), USUAL_FLAGS);
    assert.is(await client.verdict(OPT.structuredReply), REP.ack);
    assert.is(await client.verdict(OPT.structuredReply), REP.ack);
    const after = info(await client.haggle(OPT.info, infoData('')), INFO.export) as Buffer;
    assert.is(flagsOf(after, 8), USUAL_FLAGS | TX.df);
    client.structured = true;
    await goesOn(client);
  });
});

/** The contexts that are told, and the type of the last reply. */
async function contexts(client: NbdClient, number: number, name: string, queries: readonly string[]) {
  const replies = await client.haggle(number, contextData(name, queries));
  const told = replies.filter(({ type }) => type === REP.metaContext).map(({ data }) => String(data.subarray(4)));
  return { told, verdict: replies[replies.length - 1].type };
}

const NOTHING = { told: [], verdict: REP.ack };
const ALLOCATION = { told: ['base:allocation'], verdict: REP.ack };

check('LIST_META_CONTEXT tells what there is', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    await client.haggle(OPT.structuredReply);
    const list = (...queries: string[]) => contexts(client, OPT.listMetaContext, '', queries);
    assert.equal(await list(), ALLOCATION);
    assert.equal(await list('base:'), ALLOCATION);
    assert.equal(await list('base:allocation'), ALLOCATION);
    assert.equal(await list('qemu:', 'base:allocation', 'base:'), ALLOCATION);
    assert.equal(await list('base:alloc'), NOTHING);
    assert.equal(await list('qemu:dirty-bitmap:x', ''), NOTHING);
    assert.equal(await contexts(client, OPT.listMetaContext, 'other', []), { told: [], verdict: REP.unknown });
    await client.destroy();
  });
});

check('SET_META_CONTEXT chooses what was asked for by its full name', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    await client.haggle(OPT.structuredReply);
    const set = (...queries: string[]) => contexts(client, OPT.setMetaContext, '', queries);
    assert.equal(await set(), NOTHING);
    assert.equal(await set('base:'), NOTHING);
    assert.equal(await set('x:y', 'base:allocatio', 'base:allocation2'), NOTHING);
    assert.equal(await set('x:y', 'base:allocation', 'base:allocation'), ALLOCATION);
    assert.equal(await contexts(client, OPT.setMetaContext, 'other', ['base:allocation']), {
      told: [],
      verdict: REP.unknown,
    });
    await client.destroy();
  });
});

/** Whether BLOCK_STATUS is served after these steps and GO. */
async function statusAfter(server: Served, steps: (client: NbdClient) => Promise<unknown>): Promise<number> {
  const client = await server.greet();
  assert.is(await client.verdict(OPT.structuredReply), REP.ack);
  client.structured = true;
  await steps(client);
  await client.handshake({});
  const error = await client.errorOf({ type: CMD.blockStatus, offset: 0, length: 4096 });
  await client.disconnect();
  return error;
}

check('the last SET_META_CONTEXT counts, whatever came of it', async () => {
  await served({}, async (server) => {
    const set = (client: NbdClient, name = '', ...queries: string[]) =>
      client.haggle(OPT.setMetaContext, contextData(name, queries));
    const choose = (client: NbdClient) => set(client, '', 'base:allocation');
    assert.is(await statusAfter(server, choose), 0);
    assert.is(await statusAfter(server, async () => {}), EINVAL);
    const look = (client: NbdClient) => contexts(client, OPT.listMetaContext, '', ['base:allocation']);
    assert.is(await statusAfter(server, look), EINVAL);
    const then = (second: (client: NbdClient) => Promise<unknown>) =>
      statusAfter(server, async (client) => {
        await choose(client);
        await second(client);
      });
    assert.is(await then((client) => client.haggle(OPT.list)), 0);
    assert.is(await then((client) => contexts(client, OPT.listMetaContext, '', [])), 0);
    assert.is(await then((client) => set(client)), EINVAL);
    assert.is(await then((client) => set(client, 'other', 'base:allocation')), EINVAL);
    assert.is(await then((client) => client.haggle(OPT.setMetaContext, Buffer.from('short'))), EINVAL);
    assert.is(await then((client) => client.haggle(OPT.setMetaContext, Buffer.alloc(20_000))), EINVAL);
  });
});

check('contexts need structured replies', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    for (const number of [OPT.listMetaContext, OPT.setMetaContext]) {
      assert.is(await client.verdict(number, contextData('', ['base:allocation'])), REP.invalid);
    }
    await client.handshake({});
    assert.is(await client.errorOf({ type: CMD.blockStatus, offset: 0, length: 4096 }), EINVAL);
    await client.disconnect();
  });
});

check('unknown options are refused, with or without data, and the connection goes on', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    for (const number of [0, OPT.peekExport, OPT.extendedHeaders, 12, 0x7fffffff, 0x80000001, 0xffffffff]) {
      assert.is(await client.verdict(number), REP.unsupported);
      assert.is(await client.verdict(number, Buffer.alloc(8192, 1)), REP.unsupported);
    }
    await goesOn(client);
  });
});

check('STARTTLS is refused; what was sent with it counts as plaintext, and as nothing else', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    client.wire.send(option(OPT.startTls), option(OPT.setMetaContext, contextData('', [])), option(OPT.list));
    const types = async (number: number) => (await client.optionReplies(number)).map(({ type }) => type);
    assert.equal(await types(OPT.startTls), [REP.unsupported]);
    assert.equal(await types(OPT.setMetaContext), [REP.invalid], 'no state was carried over');
    assert.equal(await types(OPT.list), [REP.server, REP.ack]);
    assert.is(await client.verdict(OPT.startTls, Buffer.from('x')), REP.unsupported);
    await goesOn(client);
  });
});

check('a client that begins TLS although it was refused is closed', async () => {
  await served({}, async (server) => {
    const client = await server.greet();
    assert.is(await client.verdict(OPT.startTls), REP.unsupported);
    // The beginning of a ClientHello.
    client.wire.send(Buffer.from('16030100ca010000c60303', 'hex'), Buffer.alloc(64));
    await client.wire.expectEnd();
  });
});

run();
