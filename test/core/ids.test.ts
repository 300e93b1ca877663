/**
 * Types of numbers: one that names a thing, or counts one, is refused where another kind is expected. The lint checks types, also
 * here: an error that is expected and does not come is one.
 */

import * as assert from 'uvu/assert';
import type { ReplicaPage, SlotIndex, TablePage } from '#strake/core/ids.js';
import type { FlushId } from '#strake/layout/flush-id.js';
import type { BlockCount, BlockIndex, ChunkIndex, FlushNumber, Generation } from '#strake/ports/ids.js';
import { REQUEST_READ, SegmentRequest } from '#strake/ports/segment-request.js';
import { SlotTable } from '#strake/store/running/slot-table.js';
import { check, run } from '../support/check.js';

check('a number of one kind is not taken for another, and is a plain number', () => {
  const chunk: ChunkIndex = 7;
  const page: ReplicaPage = 1;
  const [block, blocks]: [BlockIndex, BlockCount] = [3, 4];
  const [generation, flushNumber]: [Generation, FlushNumber] = [5, 6];
  const slot = 2 as SlotIndex;
  const request = new SegmentRequest().begin(REQUEST_READ, chunk, 0);
  request.block = block;
  request.block = block + blocks;
  // @ts-expect-error: a count is no block.
  request.block = blocks;
  // @ts-expect-error: a block is no count.
  request.blocks = block;
  // @ts-expect-error: a slot of a device is no part of a volume.
  request.chunk = slot;
  // @ts-expect-error: a block of a chunk is no chunk.
  request.begin(REQUEST_READ, block, 0);
  const flush: FlushId = { generation, flushNumber };
  // @ts-expect-error: the one is not the other.
  const turned: FlushId = { generation: flushNumber, flushNumber: generation };
  const table = new SlotTable(8, 4);
  table.assign(slot, page, chunk, 0);
  assert.is(table.find(page, chunk), slot);
  // @ts-expect-error: first the replica, then the chunk.
  assert.is(table.find(chunk, page), -1);
  // @ts-expect-error: a plain number is no page of the cache; only who gives them away makes one.
  const cached: TablePage = 3;
  assert.equal([flush.generation, turned.generation, cached], [5, 6, 3]);
});

run();
