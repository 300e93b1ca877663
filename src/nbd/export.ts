/** What a server offers: a volume under a name. */

import { StrakeError } from '../core/errors.js';
import { EXPORT_TEXT_BYTES_MAX } from '../core/limits.js';
import type { Volume } from '../ports/volume.js';
import {
  TX_CAN_MULTI_CONN,
  TX_HAS_FLAGS,
  TX_READ_ONLY,
  TX_SEND_CACHE,
  TX_SEND_FAST_ZERO,
  TX_SEND_FLUSH,
  TX_SEND_FUA,
  TX_SEND_TRIM,
  TX_SEND_WRITE_ZEROES,
} from './protocol.js';

export class NbdExport {
  readonly name: string;
  readonly description: string;
  readonly volume: Volume;
  readonly readOnly: boolean;
  /** Transmission flags, but for those that depend on the connection. */
  readonly flags: number;

  /** Throws `ERR_STRAKE_INVALID_ARGUMENT` if name or description is longer than 1024 bytes. */
  constructor(name: string, description: string, volume: Volume, readOnly: boolean) {
    for (const [what, text] of [
      ['name', name],
      ['description', description],
    ]) {
      if (Buffer.byteLength(text) > EXPORT_TEXT_BYTES_MAX || text.includes('\0')) {
        const limit = `at most ${EXPORT_TEXT_BYTES_MAX} bytes, none of them zero`;
        throw new StrakeError('INVALID_ARGUMENT', `the ${what} of an export has ${limit}`);
      }
    }
    this.name = name;
    this.description = description;
    this.volume = volume;
    this.readOnly = readOnly || volume.readOnly;
    this.flags = exportFlags(volume, this.readOnly);
  }
}

/**
 * Several connections may be used at once: they share one descriptor, so a flush on any of them covers what was
 * acknowledged on all of them, and no connection caches anything.
 */
function exportFlags(volume: Volume, readOnly: boolean): number {
  const common = TX_HAS_FLAGS | TX_CAN_MULTI_CONN | TX_SEND_CACHE;
  if (readOnly) return common | TX_READ_ONLY;
  const writable = TX_SEND_FLUSH | TX_SEND_FUA | TX_SEND_TRIM | TX_SEND_WRITE_ZEROES;
  return common | writable | (volume.fastZero ? TX_SEND_FAST_ZERO : 0);
}
