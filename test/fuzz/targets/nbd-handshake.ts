/**
 * The NBD handshake: any stream of bytes, from the client's flags on, in any pieces.
 *
 * The first byte of an input chooses how the hostile client goes on when it has sent everything, the rest is what it sends.
 * An honest client is served meanwhile and afterwards.
 */

import { CMD, contextData, counted, header, infoData, OPT, option, u16, u32 } from '../../support/nbd-client.js';
import { EXPORT, GREETING, NbdWorld } from '../nbd-world.js';
import { demand, type FuzzTarget } from '../target.js';

const flags = u32(3);
const read = header({ type: CMD.read, offset: 512, length: 1024 }, 9n);
const set = option(OPT.setMetaContext, contextData(EXPORT, ['base:allocation']));
const structured = option(OPT.structuredReply);

/** Sessions that a client could have, and some that it must not. */
const SESSIONS: readonly (readonly Uint8Array[])[] = [
  [flags, option(OPT.go, infoData(EXPORT)), read],
  [flags, option(OPT.go, infoData(EXPORT, [0, 1, 2, 3]))],
  [u32(1), option(OPT.exportName, Buffer.from(EXPORT)), read],
  [flags, option(OPT.list), option(OPT.info, infoData(EXPORT, [3])), option(OPT.abort)],
  [flags, structured, set, option(OPT.go, infoData(EXPORT)), read],
  [flags, structured, option(OPT.listMetaContext, contextData(EXPORT, [])), option(OPT.startTls), option(OPT.list)],
  [flags, structured, option(OPT.listMetaContext, contextData(EXPORT, ['base:', 'x:y'])), set],
  [flags, option(OPT.go, Buffer.concat([counted(''), u16(0)])), option(OPT.peekExport), option(OPT.extendedHeaders)],
  [flags, ...Array.from({ length: 130 }, () => option(OPT.list))],
  [flags, option(OPT.info, Buffer.alloc(9000)), option(OPT.list)],
  [flags, option(OPT.exportName, Buffer.alloc(4097, 'a'))],
  [flags, option(OPT.go, infoData('a'.repeat(4096))), option(OPT.list, Buffer.alloc(3)), structured],
];

export const nbdHandshake: FuzzTarget = {
  name: 'nbd-handshake',
  covers: ['nbd'],
  bytesMax: 40_000,
  corpus: () => SESSIONS.map((parts, index) => Buffer.concat([Uint8Array.of(index), ...parts])),
  run: (bytes, random) => {
    const world = new NbdWorld(random);
    const hostile = Array.from({ length: 1 + (random.chance(0.2) ? 2 : 0) }, () => world.connect());
    for (const client of hostile) world.sendCut(client, bytes.subarray(1));
    world.serveHonestly();
    for (const client of hostile) {
      const { received } = client;
      const greeting = received.subarray(0, GREETING.length);
      demand(greeting.equals(GREETING.subarray(0, greeting.length)), 'a greeting is not one');
      const how = (bytes[0] ?? 0) % 4;
      if (how === 0) client.peer.finish();
      else if (how === 1) client.peer.reset();
      else if (how === 2) client.peer.paused = true;
    }
    world.quiet();
    if (random.chance(0.5)) world.serveHonestly();
    world.judge();
  },
};
