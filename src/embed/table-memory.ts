/** How much memory the block tables of a node's devices may have. */

import { totalmem } from 'node:os';
import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES } from '../core/limits.js';
import { alignDown, formatBytes } from '../core/units.js';
import { TABLE_MEMORY_MAX, TABLE_MEMORY_MIN, TABLE_MEMORY_SHARE } from './limits.js';

/** Memory that this process may use: that of the machine, or less if a control group says so. */
function usableBytes(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}

/**
 * The memory of the block tables of a process, in bytes: what was asked for, or a share of what there is. `ofNodes`: nodes of the
 * process that divide it between them. Throws `ERR_STRAKE_INVALID_ARGUMENT` if there is not as much.
 */
export function tableMemory(asked: number | undefined, ofNodes = 1, usable = usableBytes()): number {
  if (asked !== undefined && asked > usable) {
    throw new StrakeError(
      'INVALID_ARGUMENT',
      `tableMemory: ${formatBytes(asked)} is more than the ${formatBytes(usable)} of memory that this process may use`,
      { remedy: `Give it at most ${formatBytes(usable * TABLE_MEMORY_SHARE)}, or leave it out.` },
    );
  }
  const usual = Math.min(TABLE_MEMORY_MAX, Math.max(TABLE_MEMORY_MIN, usable * TABLE_MEMORY_SHARE));
  return alignDown(asked ?? Math.max(TABLE_MEMORY_MIN, usual / ofNodes), BLOCK_BYTES);
}
