/**
 * What a device holds, segment by segment, as a digest that is the same for the program that made the images and for this one:
 * both show their devices in the same words.
 */

import { createHash } from 'node:crypto';

const BLOCK = 4096;
const VALID = 1;

/**
 * The digest of all entries of blocks, and of what the valid ones hold. `dump` shows a part of the device, `read` gives bytes of it.
 *
 * @param {(request: object) => Promise<any>} dump
 * @param {(offset: number, bytes: number) => Uint8Array} read
 * @returns {Promise<{ segments: number, blocks: number, sha256: string }>}
 */
export async function segmentsOf(dump, read) {
  const { slots } = await dump({ what: 'slots' });
  const lines = [];
  let blocks = 0;
  for (const { slot, offset, volume, stripe, member } of slots) {
    const table = await dump({ what: 'table', slot });
    for (const { block, flags, checksum, stampLow, stampHigh } of table.blocks) {
      const content = (flags & VALID) !== 0 ? createHash('sha256').update(read(offset + block * BLOCK, BLOCK)) : null;
      const held = content?.digest('hex') ?? '';
      blocks += 1;
      lines.push(`${volume} ${stripe} ${member} ${block} ${flags} ${checksum} ${stampLow} ${stampHigh} ${held}`);
    }
    lines.push(`${volume} ${stripe} ${member}`);
  }
  const sha256 = createHash('sha256').update(lines.toSorted().join('\n')).digest('hex');
  return { segments: slots.length, blocks, sha256 };
}
