/** Answers of the handshake that are longer than what is sent at a time: they come whole, in parts. */

import * as assert from 'uvu/assert';
import { EXPORT_TEXT_BYTES_MAX } from '#strake/core/limits.js';
import { formatDevice, type Node, openNode } from '#strake/index.js';
import { NbdExport } from '#strake/nbd/export.js';
import { Handshake } from '#strake/nbd/handshake.js';
import { Writer } from '#strake/net/writer.js';
import { RAW_VOLUME_SCRATCH_BYTES, RawVolume } from '#strake/raw/raw-volume.js';
import { SimDevice } from '#strake/sim/disk/device.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { check, run, tool } from '../support/check.js';
import {
  contextData,
  INFO,
  infoData,
  NbdClient,
  OPT,
  type OptionReply,
  option,
  REP,
  u32,
} from '../support/nbd-client.js';
import { output, scratchFile, socketPath } from '../support/scratch.js';

const MIB = 1 << 20;

function longName(index: number, length: number): string {
  return `v${index}-`.padEnd(length, 'x');
}

function namesOf(replies: readonly OptionReply[]): string[] {
  return replies
    .filter(({ type }) => type === REP.server)
    .map(({ data }) => String(data.subarray(4, 4 + data.readUInt32BE())));
}

/** A node with as many volumes as there may be, with names as long as they may be, served on `socket`. */
async function withVolumes(
  body: (socket: string, names: readonly string[], node: Node) => Promise<void>,
): Promise<void> {
  const path = scratchFile(64 * MIB);
  await formatDevice(path);
  const node = await openNode({ devices: [path] });
  try {
    const names = Array.from({ length: 32 }, (_, index) => longName(index, 255));
    for (const name of names) await node.createVolume({ name, sizeBytes: MIB });
    const socket = socketPath();
    await node.serve({ socket });
    await body(socket, names, node);
  } finally {
    await node.close();
  }
}

check('all volumes of a full node are listed, by our client and by nbdinfo', [tool('nbdinfo')], async () => {
  await withVolumes(async (socket, names) => {
    const client = await NbdClient.greet(socket);
    const replies = await client.haggle(OPT.list);
    assert.equal(namesOf(replies).sort(), [...names].sort());
    assert.is(replies[replies.length - 1].type, REP.ack);
    await client.handshake({ name: names[31] });
    assert.is(client.sizeBytes, MIB);
    await client.disconnect();
    const seen = output('nbdinfo', '--list', '--json', `nbd+unix:///?socket=${socket}`);
    const { exports } = JSON.parse(seen) as { exports: { 'export-name': string }[] };
    assert.equal(exports.map((one) => one['export-name']).sort(), [...names].sort());
  });
});

check('options that follow a long one are answered after it, though nobody reads for long', async () => {
  await withVolumes(async (socket, names, node) => {
    const client = await NbdClient.greet(socket);
    const lists = 100;
    client.wire.send(...new Array<Buffer>(lists).fill(option(OPT.list)), option(OPT.go, infoData(names[0])));
    // Others are served meanwhile, and volumes come and go.
    const other = await NbdClient.connect(socket, { name: names[1] });
    await other.read(0, 4096);
    await other.disconnect();
    await node.deleteVolume(names[5]);
    for (let index = 0; index < lists; index += 1) {
      const seen = namesOf(await client.optionReplies(OPT.list));
      const missing = names.filter((name) => !seen.includes(name));
      assert.ok(
        missing.every((name) => name === names[5]),
        `list ${index} lacks ${missing}`,
      );
      assert.is(new Set(seen).size, seen.length, 'none is there twice');
    }
    client.takeInfo(await client.optionReplies(OPT.go));
    await client.read(0, 4096);
    await client.disconnect();
  });
});

/** What a handshake answers, all parts together, where each part has room for `room` bytes. */
function answers(
  said: Buffer,
  exports: readonly NbdExport[],
  loop: SimLoop,
  room: number,
): { text: string; parts: number } {
  const at = 64 << 10;
  loop.bytes.set(said, 0);
  const handshake = new Handshake(loop, {
    exports: new Map(exports.map((one) => [one.name, one])),
    admit: () => true,
  });
  const written: Buffer[] = [];
  let start = 0;
  for (;;) {
    const writer = new Writer(loop);
    writer.open(at, room);
    const step = handshake.step(start, said.length, writer);
    start += handshake.used;
    if (writer.length > 0) written.push(Buffer.from(loop.bytes.slice(at, at + writer.length)));
    if (step === 'serve' || step === 'close') break;
    if (step === 'more') throw new Error('the handshake waits for more');
  }
  assert.is(start, said.length, 'all that was said was looked at');
  return { text: Buffer.concat(written).toString('hex'), parts: written.length };
}

check('answers are the same, however small the parts are in which they leave', () => {
  const loop = new SimLoop({
    seed: 1,
    arena: new Uint8Array(new SharedArrayBuffer((1 << 20) + RAW_VOLUME_SCRATCH_BYTES)),
  });
  const device = new SimDevice(loop, new SimDisk({ sizeBytes: 1 << 16 }));
  const volume = new RawVolume(loop, loop, device, 1 << 20, false, () => {});
  const texts = [0, 1, 255, EXPORT_TEXT_BYTES_MAX];
  const exports = texts.flatMap((length, index) => {
    return texts.map(
      (width) =>
        new NbdExport(
          longName(index, length + 8).slice(0, EXPORT_TEXT_BYTES_MAX - 4) + width,
          'd'.repeat(width),
          volume,
          false,
        ),
    );
  });
  const { name } = exports[exports.length - 1];
  const said = Buffer.concat([
    u32(3),
    option(OPT.list),
    option(OPT.structuredReply),
    option(OPT.info, infoData(name, [INFO.description, INFO.name])),
    option(OPT.listMetaContext, contextData(name, [])),
    option(OPT.setMetaContext, contextData(name, ['base:allocation'])),
    option(99, Buffer.alloc(10)),
    option(OPT.list),
    option(OPT.go, infoData(name, [INFO.description, INFO.name])),
  ]);
  const whole = answers(said, exports, loop, 256 << 10);
  assert.is(whole.parts, 8);
  for (const room of [1, 2, 19, 20, 21, 23, 24, 100, 1047, 2071, 2072, 2073, 4096]) {
    const { text, parts } = answers(said, exports, loop, room);
    assert.ok(text === whole.text, `parts of ${room} bytes`);
    assert.ok(parts > 8);
  }
});

run();
