/**
 * Whether the file of an LMDB store is whole, before LMDB maps it: what it finds there it follows without looking, so that a file
 * that is cut short ends the process, and a page that is counted as free and is not is written over.
 *
 * ```text
 *   page 0, page 1: metas, of which the newer counts ─┬─► tree of free pages: lists of their numbers
 *                                                     └─► tree of records: branches ─► leaves ─► overflow pages
 * ```
 *
 * Each page that a tree leads to has its own number and belongs to nothing else; nodes lie within their page; keys ascend; the
 * counts of the meta are those that are found. The layout is that of data version 2 of LMDB 1.0 (`mdb.c`: `MDB_page_header`,
 * `MDB_node`,
 * `MDB_meta`), with lists of free pages as the package `lmdb` packs them: of a run the negative length, and then its first page.
 * Content of records is under sums of its own (`lmdb-store.ts`).
 */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { MAP_BYTES_MAX, TREE_LEVELS_MAX } from './limits.js';

/** What is wrong with the file. */
export class PagesProblem extends Error {}

const MAGIC = 0xbeefc0de;
const DATA_VERSION = 2;
const HEADER_BYTES = 24;
const AT_TXNID = 8;
const AT_FLAGS = 18;
const AT_LOWER = 20;
const AT_UPPER = 22;
const FLAG_BRANCH = 1;
const FLAG_LEAF = 2;
const FLAG_OVERFLOW = 4;
const FLAG_META = 8;
/** Of a meta, behind the header of its page. */
const META_AT_VERSION = 4;
const META_AT_ADDRESS = 8;
const META_AT_MAP_BYTES = 16;
const META_AT_TREES = 24;
const TREE_BYTES = 48;
const META_AT_LAST_PAGE = META_AT_TREES + 2 * TREE_BYTES;
const META_AT_TXNID = META_AT_LAST_PAGE + 8;
/** Of a tree in a meta. */
const TREE_AT_FLAGS = 4;
const TREE_AT_DEPTH = 6;
const TREE_AT_ENTRIES = 32;
const TREE_AT_ROOT = 40;
const NO_ROOT = 2n ** 64n - 1n;
/** The keys of the tree of free pages are numbers, and the store is a file. No other flag is used, such as that of encryption. */
const FREE_TREE_FLAGS = 0x4008;
/** Of a node, on a page. */
const NODE_BYTES = 8;
const NODE_BIG_DATA = 1;

interface Tree {
  readonly root: number | null;
  readonly depth: number;
  readonly entries: number;
}

interface Meta {
  readonly pageBytes: number;
  readonly lastPage: number;
  readonly txnid: number;
  readonly free: Tree;
  readonly records: Tree;
}

/** Throws a `PagesProblem` unless the file at `path` is whole, and an error of the system if it cannot be read. */
export function checkPages(path: string): void {
  const file = openSync(path, 'r');
  try {
    new PageCheck(file, fstatSync(file).size).run();
  } finally {
    closeSync(file);
  }
}

class PageCheck {
  private readonly file: number;
  private readonly fileBytes: number;
  /** What each page belongs to. */
  private readonly owners = new Map<number, string>();
  private meta: Meta = { pageBytes: 4096, lastPage: 1, txnid: 0, free: NOTHING, records: NOTHING };

  constructor(file: number, fileBytes: number) {
    this.file = file;
    this.fileBytes = fileBytes;
  }

  run(): void {
    const [first, second] = this.readMetas();
    // Transactions take turns, so an older one is not taken for the last because a bit of its successor has flipped.
    if (first.txnid % 2 !== 0 || Math.abs(first.txnid - second.txnid) !== 1) {
      const what = `its two metas are of transactions ${first.txnid} and ${second.txnid}`;
      throw new PagesProblem(`${what}, which do not follow each other`);
    }
    this.meta = first.txnid > second.txnid ? first : second;
    this.claim(0, 1, 'the metas');
    this.claim(1, 1, 'the metas');
    this.walk(this.meta.free, 'the tree of free pages', (_key, value) => this.takeFree(value));
    this.walk(this.meta.records, 'the tree of records', () => {});
  }

  private readMetas(): readonly [Meta, Meta] {
    const first = this.readMeta(this.bytesAt(0, 4096), 0);
    return [first, this.readMeta(this.bytesAt(first.pageBytes, 4096), 1)];
  }

  private readMeta(page: DataView, number: number): Meta {
    const wrong = (what: string) => new PagesProblem(`meta ${number}: ${what}`);
    if ((page.getUint16(AT_FLAGS, true) & FLAG_META) === 0) throw wrong('it is none');
    const at = HEADER_BYTES;
    if (page.getUint32(at, true) !== MAGIC) throw wrong('it does not begin as one of LMDB does');
    const version = page.getUint32(at + META_AT_VERSION, true);
    if (version !== DATA_VERSION) throw wrong(`data version ${version}, and this version knows ${DATA_VERSION}`);
    const pageBytes = page.getUint32(at + META_AT_TREES, true);
    if (![512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536].includes(pageBytes))
      throw wrong(`pages of ${pageBytes} bytes`);
    const lastPage = numberAt(page, at + META_AT_LAST_PAGE);
    const mapBytes = numberAt(page, at + META_AT_MAP_BYTES);
    if (mapBytes % pageBytes !== 0 || mapBytes > MAP_BYTES_MAX || mapBytes < (lastPage + 1) * pageBytes) {
      throw wrong(`a map of ${mapBytes} bytes for ${lastPage + 1} pages`);
    }
    if (numberAt(page, at + META_AT_ADDRESS) !== 0) throw wrong('it wants to lie at a certain address');
    const flags = [META_AT_TREES, META_AT_TREES + TREE_BYTES].map((tree) =>
      page.getUint16(at + tree + TREE_AT_FLAGS, true),
    );
    if (flags[0] !== FREE_TREE_FLAGS || flags[1] !== 0) throw wrong(`its trees have flags ${flags.join(' and ')}`);
    return {
      ...{ pageBytes, lastPage },
      txnid: numberAt(page, at + META_AT_TXNID),
      free: treeAt(page, at + META_AT_TREES),
      records: treeAt(page, at + META_AT_TREES + TREE_BYTES),
    };
  }

  private bytesAt(at: number, length: number): DataView {
    const bytes = new Uint8Array(length);
    const read = at + length <= this.fileBytes ? readSync(this.file, bytes, 0, length, at) : 0;
    if (read !== length) throw new PagesProblem(`it has ${this.fileBytes} bytes and ends before byte ${at + length}`);
    return new DataView(bytes.buffer);
  }

  /** Pages that belong to something, and to nothing else. */
  private claim(first: number, count: number, owner: string): void {
    const { lastPage } = this.meta;
    for (let page = first; page < first + count; page += 1) {
      if (!(page >= 0 && page <= Math.max(lastPage, 1)))
        throw new PagesProblem(`${owner} has page ${page}, and ${lastPage} is the last`);
      const other = this.owners.get(page);
      if (other !== undefined) throw new PagesProblem(`page ${page} belongs to ${owner}, and to ${other}`);
      this.owners.set(page, owner);
    }
  }

  private pageAt(number: number, owner: string): DataView {
    const { pageBytes, txnid } = this.meta;
    this.claim(number, 1, owner);
    const page = this.bytesAt(number * pageBytes, pageBytes);
    const own = numberAt(page, 0);
    if (own !== number) throw new PagesProblem(`page ${number} of ${owner} says that it is page ${own}`);
    if (numberAt(page, AT_TXNID) > txnid)
      throw new PagesProblem(`page ${number} of ${owner} is of a later transaction`);
    return page;
  }

  private walk(tree: Tree, owner: string, take: (key: Uint8Array, value: Uint8Array) => void): void {
    if (tree.root === null) {
      if (tree.entries !== 0) throw new PagesProblem(`${owner} is empty, and is said to have ${tree.entries} entries`);
      return;
    }
    if (tree.depth < 1 || tree.depth > TREE_LEVELS_MAX) throw new PagesProblem(`${owner} has ${tree.depth} levels`);
    let entries = 0;
    let last: Uint8Array | null = null;
    const visit = (number: number, level: number): void => {
      const page = this.pageAt(number, owner);
      const flags = page.getUint16(AT_FLAGS, true) & (FLAG_BRANCH | FLAG_LEAF | FLAG_OVERFLOW | FLAG_META);
      const leaf = level === tree.depth;
      if (flags !== (leaf ? FLAG_LEAF : FLAG_BRANCH))
        throw new PagesProblem(`page ${number} of ${owner} is of another kind`);
      for (const node of nodesOf(page, number)) {
        if (!leaf) {
          visit(node.child, level + 1);
          continue;
        }
        // Free lists are by numbers, whose bytes do not ascend.
        if (last !== null && owner.endsWith('records') && Buffer.compare(last, node.key) >= 0) {
          throw new PagesProblem(`keys on page ${number} of ${owner} do not ascend`);
        }
        last = node.key;
        entries += 1;
        take(node.key, node.big ? this.overflow(node, owner) : node.data);
      }
    };
    visit(tree.root, 1);
    if (entries !== tree.entries)
      throw new PagesProblem(`${owner} has ${entries} entries, and is said to have ${tree.entries}`);
  }

  /** The value of a node that lies on pages of its own. */
  private overflow({ data, dataBytes }: Node, owner: string): Uint8Array {
    const { pageBytes } = this.meta;
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const [first, pages] = [numberAt(view, 0), numberAt(view, 16)];
    const needed = Math.floor((HEADER_BYTES - 1 + dataBytes) / pageBytes) + 1;
    if (pages < needed) throw new PagesProblem(`${owner} has ${dataBytes} bytes on ${pages} pages at page ${first}`);
    const page = this.pageAt(first, owner);
    if ((page.getUint16(AT_FLAGS, true) & FLAG_OVERFLOW) === 0) {
      throw new PagesProblem(`page ${first} of ${owner} is of another kind`);
    }
    this.claim(first + 1, pages - 1, owner);
    const value = this.bytesAt(first * pageBytes + HEADER_BYTES, dataBytes);
    return new Uint8Array(value.buffer);
  }

  /** A list of free pages. */
  private takeFree(value: Uint8Array): void {
    const list = new DataView(value.buffer, value.byteOffset, value.byteLength);
    const wrong = () => new PagesProblem('a list of free pages contradicts itself');
    if (value.length < 8) throw wrong();
    const count = Number(list.getBigInt64(0, true));
    if (!(count >= 0 && (count + 1) * 8 <= value.length)) throw wrong();
    for (let at = 1; at <= count; at += 1) {
      const entry = Number(list.getBigInt64(8 * at, true));
      if (entry === 0) continue;
      if (entry > 0) {
        this.claim(entry, 1, 'the free pages');
        continue;
      }
      at += 1;
      if (at > count || -entry > this.meta.lastPage) throw wrong();
      this.claim(Number(list.getBigInt64(8 * at, true)), -entry, 'the free pages');
    }
  }
}

const NOTHING: Tree = { root: null, depth: 0, entries: 0 };

function numberAt(view: DataView, at: number): number {
  const value = Number(view.getBigUint64(at, true));
  if (!Number.isSafeInteger(value)) throw new PagesProblem(`it has the number ${value}, which is beyond 2^53`);
  return value;
}

function treeAt(view: DataView, at: number): Tree {
  const root = view.getBigUint64(at + TREE_AT_ROOT, true);
  return {
    root: root === NO_ROOT ? null : numberAt(view, at + TREE_AT_ROOT),
    depth: view.getUint16(at + TREE_AT_DEPTH, true),
    entries: numberAt(view, at + TREE_AT_ENTRIES),
  };
}

interface Node {
  readonly key: Uint8Array;
  /** What lies in the node: its value, or where that is. */
  readonly data: Uint8Array;
  readonly dataBytes: number;
  readonly big: boolean;
  /** Of a branch. */
  readonly child: number;
}

function* nodesOf(page: DataView, number: number): IterableIterator<Node> {
  const wrong = (what: string) => new PagesProblem(`page ${number}: ${what}`);
  const leaf = (page.getUint16(AT_FLAGS, true) & FLAG_LEAF) !== 0;
  const [lower, upper] = [page.getUint16(AT_LOWER, true), page.getUint16(AT_UPPER, true)];
  const bodyBytes = page.byteLength - HEADER_BYTES;
  if (lower % 2 !== 0 || lower > upper || upper > bodyBytes) throw wrong('its bounds contradict each other');
  const count = lower / 2;
  if (count === 0 || (!leaf && count < 2)) throw wrong(`it has ${count} nodes`);
  for (let index = 0; index < count; index += 1) {
    const at = HEADER_BYTES + page.getUint16(HEADER_BYTES + 2 * index, true);
    if (at < HEADER_BYTES + upper || at + NODE_BYTES > page.byteLength) throw wrong(`node ${index} lies outside`);
    const low = page.getUint16(at, true) + page.getUint16(at + 2, true) * 2 ** 16;
    const flags = page.getUint16(at + 4, true);
    const keyBytes = page.getUint16(at + 6, true);
    const big = leaf && flags === NODE_BIG_DATA;
    if (leaf && flags !== 0 && !big) throw wrong(`node ${index} has flags ${flags}`);
    const inPage = leaf ? (big ? 24 : low) : 0;
    if (at + NODE_BYTES + keyBytes + inPage > page.byteLength) throw wrong(`node ${index} reaches beyond its page`);
    const key = new Uint8Array(page.buffer, at + NODE_BYTES, keyBytes);
    const data = new Uint8Array(page.buffer, at + NODE_BYTES + keyBytes, inPage);
    yield { key, data, dataBytes: leaf ? low : 0, big, child: leaf ? -1 : low + flags * 2 ** 32 };
  }
}
