/**
 * The bytes of a simulated disk: sparse, and cheap to copy.
 *
 * Content is kept in pages of 4 KiB, pages in groups of 256. A copy of an image shares all groups; whichever of the two
 * changes one first copies the group, and the page. Who may change a page in place is told by the `owner` in it: an image
 * takes a new owner number whenever it has been copied, so nothing that was shared then carries its number.
 *
 * What was never written is a hole and reads as zeroes.
 *
 * A digest tells contents apart. It is a sum over pages, and groups and pages that are shared keep theirs, so that of an image
 * that differs from a known one in a few pages it costs only those. It is not for enemies.
 */

import { BLOCK_BYTES } from '../../core/limits.js';

const PAGE_BYTES = BLOCK_BYTES;
const GROUP_PAGES = 256;
const GROUP_BYTES = GROUP_PAGES * PAGE_BYTES;
/** Small pieces of memory are cut from slabs: an ArrayBuffer of its own costs several times as much as a view. */
const SLAB_BYTES = 256 << 10;

/** Two sums of 32 bits. */
interface Digest {
  readonly low: number;
  readonly high: number;
}

interface Page {
  readonly owner: number;
  readonly bytes: Uint8Array;
  /** Of a page that nobody may change any more; undefined until it is asked for. */
  digest: Digest | undefined;
}

interface Group {
  readonly owner: number;
  readonly pages: (Page | undefined)[];
  digest: Digest | undefined;
}

let owners = 0;
let slab = new Uint8Array(SLAB_BYTES);
let slabUsed = 0;

/** Zeroed memory that nobody else has. */
export function allocateBytes(lengthBytes: number): Uint8Array {
  if (lengthBytes > SLAB_BYTES / 4) return new Uint8Array(lengthBytes);
  if (slabUsed + lengthBytes > SLAB_BYTES) {
    slab = new Uint8Array(SLAB_BYTES);
    slabUsed = 0;
  }
  slabUsed += lengthBytes;
  return slab.subarray(slabUsed - lengthBytes, slabUsed);
}

/** FNV-1a over words, twice with different multipliers; zero for zeroes, as for a hole. */
function digestOfPage(bytes: Uint8Array, index: number): Digest {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, PAGE_BYTES / 4);
  let low = 0;
  let high = 0;
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at];
    low = Math.imul(low ^ word, 0x0100_0193);
    low ^= low >>> 15;
    high = Math.imul((high ^ word) + (high >>> 13), 0x85eb_ca6b);
  }
  if (low === 0 && high === 0) return { low, high };
  return {
    low: scatter(low ^ Math.imul(index + 1, 0x9e37_79b1)),
    high: scatter(high + Math.imul(index + 1, 0xc2b2_ae35)),
  };
}

/** The finalizer of MurmurHash3: each bit of the input changes half of the output. */
function scatter(value: number): number {
  let mixed = Math.imul(value ^ (value >>> 16), 0x85eb_ca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

function digestOfGroup(pages: readonly (Page | undefined)[], first: number): Digest {
  let low = 0;
  let high = 0;
  for (let at = 0; at < pages.length; at += 1) {
    const page = pages[at];
    if (page === undefined) continue;
    page.digest ??= digestOfPage(page.bytes, first + at);
    low = (low + page.digest.low) >>> 0;
    high = (high + page.digest.high) >>> 0;
  }
  return { low, high };
}

export class SimImage {
  readonly sizeBytes: number;
  private owner: number;
  private groups: (Group | undefined)[];

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    owners += 1;
    this.owner = owners;
    this.groups = new Array(Math.ceil(sizeBytes / GROUP_BYTES)).fill(undefined);
  }

  /** A copy; neither sees later changes of the other. Costs a few nanoseconds for each MiB of the image's size. */
  clone(): SimImage {
    const copy = new SimImage(0);
    (copy as { sizeBytes: number }).sizeBytes = this.sizeBytes;
    copy.groups = this.groups.slice();
    owners += 1;
    this.owner = owners;
    return copy;
  }

  /** A number that differs for other contents, up to chance: 53 bits. */
  digest(): number {
    // What has a digest must not be changed in place.
    owners += 1;
    this.owner = owners;
    let low = 0;
    let high = 0;
    this.groups.forEach((group, number) => {
      if (group === undefined) return;
      group.digest ??= digestOfGroup(group.pages, number * GROUP_PAGES);
      low = (low + group.digest.low) >>> 0;
      high = (high + group.digest.high) >>> 0;
    });
    return (high >>> 11) * 2 ** 32 + low;
  }

  /** Copies bytes from here to `target[at]`. */
  read(offset: number, lengthBytes: number, target: Uint8Array, at: number): void {
    let done = 0;
    while (done < lengthBytes) {
      const from = (offset + done) % PAGE_BYTES;
      const step = Math.min(PAGE_BYTES - from, lengthBytes - done);
      const page = this.page(offset + done);
      if (page === undefined) target.fill(0, at + done, at + done + step);
      else if (step === PAGE_BYTES) target.set(page.bytes, at + done);
      else target.set(page.bytes.subarray(from, from + step), at + done);
      done += step;
    }
  }

  /** Copies bytes from `source[at]` to here. */
  write(offset: number, lengthBytes: number, source: Uint8Array, at: number): void {
    let done = 0;
    while (done < lengthBytes) {
      const from = (offset + done) % PAGE_BYTES;
      const step = Math.min(PAGE_BYTES - from, lengthBytes - done);
      const whole = done === 0 && at === 0 && step === source.length;
      const piece = whole ? source : source.subarray(at + done, at + done + step);
      this.ownPage(offset + done, step < PAGE_BYTES).set(piece, from);
      done += step;
    }
  }

  /** Sets bytes to zero. Whole pages become holes, unless they shall stay `allocated`. */
  zero(offset: number, lengthBytes: number, allocated: boolean): void {
    let done = 0;
    while (done < lengthBytes) {
      const from = (offset + done) % PAGE_BYTES;
      const step = Math.min(PAGE_BYTES - from, lengthBytes - done);
      if (step === PAGE_BYTES && !allocated) this.punch(offset + done);
      else if (allocated || this.page(offset + done) !== undefined) {
        this.ownPage(offset + done, step < PAGE_BYTES).fill(0, from, from + step);
      }
      done += step;
    }
  }

  /** Whether anything was written to the page that holds this offset. */
  allocated(offset: number): boolean {
    return this.page(offset) !== undefined;
  }

  private page(offset: number): Page | undefined {
    const index = Math.floor(offset / PAGE_BYTES);
    return this.groups[Math.floor(index / GROUP_PAGES)]?.pages[index % GROUP_PAGES];
  }

  private ownGroup(number: number): Group {
    const group = this.groups[number];
    if (group !== undefined && group.owner === this.owner) return group;
    const pages = group === undefined ? new Array<undefined>(GROUP_PAGES).fill(undefined) : group.pages.slice();
    const owned = { owner: this.owner, pages, digest: undefined };
    this.groups[number] = owned;
    return owned;
  }

  /** Bytes of the page that holds `offset`, to be changed. They are only right beforehand if `keep` is set. */
  private ownPage(offset: number, keep: boolean): Uint8Array {
    const index = Math.floor(offset / PAGE_BYTES);
    const { pages } = this.ownGroup(Math.floor(index / GROUP_PAGES));
    const page = pages[index % GROUP_PAGES];
    if (page !== undefined && page.owner === this.owner) return page.bytes;
    const bytes = allocateBytes(PAGE_BYTES);
    if (keep && page !== undefined) bytes.set(page.bytes);
    pages[index % GROUP_PAGES] = { owner: this.owner, bytes, digest: undefined };
    return bytes;
  }

  private punch(offset: number): void {
    if (this.page(offset) === undefined) return;
    const index = Math.floor(offset / PAGE_BYTES);
    this.ownGroup(Math.floor(index / GROUP_PAGES)).pages[index % GROUP_PAGES] = undefined;
  }
}
