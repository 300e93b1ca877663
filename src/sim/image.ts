/**
 * The bytes of a simulated disk: sparse, and cheap to copy.
 *
 * Content is kept in pages of 4 KiB, pages in groups of 256. A copy of an image shares all groups; whichever of the two
 * changes one first copies the group, and the page. Who may change a page in place is told by the `owner` in it: an image
 * takes a new owner number whenever it has been copied, so nothing that was shared then carries its number.
 *
 * What was never written is a hole and reads as zeroes.
 */

const PAGE_BYTES = 4096;
const GROUP_PAGES = 256;
const GROUP_BYTES = GROUP_PAGES * PAGE_BYTES;
/** Small pieces of memory are cut from slabs: an ArrayBuffer of its own costs several times as much as a view. */
const SLAB_BYTES = 256 << 10;

interface Page {
  readonly owner: number;
  readonly bytes: Uint8Array;
}

interface Group {
  readonly owner: number;
  readonly pages: (Page | undefined)[];
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
    const owned = { owner: this.owner, pages };
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
    pages[index % GROUP_PAGES] = { owner: this.owner, bytes };
    return bytes;
  }

  private punch(offset: number): void {
    if (this.page(offset) === undefined) return;
    const index = Math.floor(offset / PAGE_BYTES);
    this.ownGroup(Math.floor(index / GROUP_PAGES)).pages[index % GROUP_PAGES] = undefined;
  }
}
