/** A volume of a node as a program uses it, and which of these a node has given out. */

import { deviceError, EBADF, ECANCELED } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import type { LoadMessage, LoadResult, VolumeFacts } from '../worker/messages.js';
import type { ShardLink } from '../worker/shard-pool.js';
import { BlockIo, type BlockTarget } from './block-io.js';
import { LOAD } from './rules.js';

const INTERNAL = Symbol('strake.internal');

/** What a volume needs of its node; throws while the node is not open. */
export interface VolumeOwner {
  readonly link: ShardLink;
}

/**
 * A volume of a node, to read and write. From its first operation on it is the volume that had its name then, whatever is
 * renamed.
 */
export class NodeVolume extends BlockIo {
  private readonly node: VolumeOwner;
  /** The name or id that it was asked for by. */
  private readonly text: string;
  /** Its name as far as that is known. */
  private called: string;
  private facts: VolumeFacts | null = null;
  private known: string | null = null;
  /** The life of the shard in which its number means something. */
  private home: ShardLink | null = null;

  /** @internal */
  constructor(key: symbol, node: VolumeOwner, text: string) {
    super();
    if (key !== INTERNAL) throw new TypeError('volumes belong to their nodes');
    this.node = node;
    this.text = text;
    this.called = text;
  }

  /** Its name when that was last heard of; until then, the name or id that it was asked for by. */
  get name(): string {
    return this.called;
  }

  /** Its id, 32 hexadecimal digits; null until the volume has been used, or made. */
  get id(): string | null {
    return this.known;
  }

  /** Size in bytes; known once the volume has been used, or made. */
  get sizeBytes(): number {
    return this.facts?.sizeBytes ?? Number.MAX_SAFE_INTEGER;
  }

  protected override get title(): string {
    return `volume ${this.name}`;
  }

  /** @internal */
  adopt(link: ShardLink, facts: VolumeFacts): void {
    this.home = link;
    this.facts = facts;
    this.known = facts.id;
    this.called = facts.name;
  }

  /** @internal */
  async refresh(): Promise<void> {
    const { link } = this.node;
    this.adopt(link, await link.call('findVolume', { name: this.known ?? this.text }));
  }

  /** Puts a load on the volume from within the shard that it is on, for benches. @internal */
  async load(message: Omit<LoadMessage, 'device'>): Promise<LoadResult> {
    const checked = LOAD.take(message, 'load: message');
    await this.refresh();
    const { link } = this.node;
    return await link.call('load', { ...checked, device: (this.facts as VolumeFacts).device });
  }

  /** @internal */
  rename(name: string): void {
    this.called = name;
  }

  /** What it knows of its volume counts no longer; the next operation asks. @internal */
  forget(): void {
    this.facts = null;
    this.home = null;
  }

  /** Its volume is gone: it stands for whichever has the name next. @internal */
  release(): void {
    this.forget();
    this.known = null;
    this.called = this.text;
  }

  protected override async target(): Promise<BlockTarget> {
    const { link } = this.node;
    if (this.facts === null || this.home !== link) await this.refresh();
    const facts = this.facts as VolumeFacts | null;
    if (facts === null) throw new StrakeError('CLOSED', `${this.title} has been closed`);
    return { client: link.client, device: facts.device };
  }

  protected override failure(what: string, errno: number): Promise<StrakeError> {
    const text = `${what} ${this.title}`;
    // Its number is gone; the next operation asks what has become of it.
    if (errno === EBADF) this.forget();
    const dead = new StrakeError('WORKER_DIED', `${text}: the worker that serves it has ended`);
    return Promise.resolve(errno === ECANCELED ? dead : deviceError(errno, text));
  }
}

/** The volumes that programs have asked a node for. */
export class VolumeHandles {
  private readonly node: VolumeOwner;
  /** By what they were asked for, while that means them. */
  private readonly byText = new Map<string, NodeVolume>();
  /** Those whose volumes have another name now. */
  private readonly renamed = new Set<NodeVolume>();

  constructor(node: VolumeOwner) {
    this.node = node;
  }

  /** The volume of this name or id; always the same object, so long as the name means the same volume. */
  of(text: string): NodeVolume {
    let handle = this.byText.get(text);
    if (handle === undefined) {
      handle = new NodeVolume(INTERNAL, this.node, text);
      this.byText.set(text, handle);
    }
    return handle;
  }

  all(): NodeVolume[] {
    return [...this.byText.values(), ...this.renamed];
  }

  /** A volume has been renamed: who has it keeps it, and who asks for the old name from now on does not get it. */
  onRenamed(id: string, name: string): void {
    for (const handle of this.all()) if (handle.id === id) handle.rename(name);
    for (const [text, handle] of this.byText) {
      if (handle.id !== id || text === id || text === name) continue;
      this.byText.delete(text);
      this.renamed.add(handle);
    }
  }

  /** Asks again about a volume, wherever it is in use. */
  async refresh(id: string): Promise<void> {
    await Promise.all(this.all().map((handle) => (handle.id === id ? handle.refresh() : undefined)));
  }

  /** A volume is gone: who had it by its name may use that for a new volume of the name. */
  onDeleted(id: string): void {
    for (const handle of this.byText.values()) if (handle.id === id) handle.release();
    for (const handle of this.renamed) {
      if (handle.id !== id) continue;
      handle.forget();
      this.renamed.delete(handle);
    }
  }
}
