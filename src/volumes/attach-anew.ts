/**
 * Attaching volumes anew that were attached: another client has attached them and does not serve, or all current copies of a
 * group were opened anew.
 *
 * ```text
 *   serves ──► suspended ─┬─ the other client serves ──────────────────────────────────► deposed: requests fail
 *                         ├─ it has given the volume back, or has not served in time ─┐
 *                         └─ copies were opened anew ─────────────────────────────────┴► attach, one generation later
 *
 *   attach ─┬─ a copy has served a generation in between ─► given back, deposed
 *           ├─ the copies are equal ──────────────────────► serves; what was held begins anew
 *           └─ it fails, or somebody is faster ───────────► suspended
 * ```
 *
 * Whether somebody has served in between the copies say themselves, so that nothing hangs on what the manager remembers of it:
 * what was held is never written again then.
 *
 * Fault model: the other client dies at each step of its attach, is slow, or goes on as slowly again; managers and members come
 * and go; this process stands still for any time.
 */

import { check } from '../core/check.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import type { Generation } from '../ports/ids.js';
import type { Held, Lost } from '../ports/manager.js';
import type { HostedVolume } from './hosted-volume.js';
import type { ManagedAuthority } from './managed-authority.js';
import type { NodeParts } from './node-parts.js';

export interface AttachAnewParts {
  readonly node: NodeParts;
  readonly authority: ManagedAuthority;
  /** Ends the service of a volume for good: its requests fail. */
  readonly depose: (volumeId: string, reason: string) => void;
}

/** With these a volume is not attached again: there is none, or the node is at its end. */
const FINAL: ReadonlySet<string> = new Set(['ERR_STRAKE_NO_VOLUME', 'ERR_STRAKE_CLOSED']);

export class AttachAnew {
  private readonly parts: AttachAnewParts;
  /** Volumes that are suspended: under which generation they were served last, and why they are not. */
  private readonly suspended = new Map<string, { readonly generation: Generation; readonly reason: string }>();
  /** Volumes that are being attached. */
  private readonly attaching = new Set<string>();

  constructor(parts: AttachAnewParts) {
    this.parts = parts;
  }

  /** What a manager is asked about beside the volumes that are held. */
  get holds(): readonly Held[] {
    return [...this.suspended].map(([volumeId, { generation }]) => ({ volumeId, generation, serves: false }));
  }

  isSuspended(volumeId: string): boolean {
    return this.suspended.has(volumeId);
  }

  /** Holds the requests of a volume that may be somebody else's. Returns whether it was served, and so may be attached anew. */
  suspend(volumeId: string, reason: string): boolean {
    const { node, authority } = this.parts;
    const engine = node.volumes.get(volumeId)?.ownEngine;
    if (!engine?.suspend(reason)) return false;
    // What waits for a manager ends with it.
    authority.giveUp(volumeId, reason);
    check(!authority.isHeld(volumeId), 'maps are decided on for a volume that is suspended', this.suspended.size);
    if (!this.suspended.has(volumeId)) this.suspended.set(volumeId, { generation: engine.heldGeneration, reason });
    return true;
  }

  /** Forgets a volume that goes on, or does not any more. */
  forget(volumeId: string): void {
    this.suspended.delete(volumeId);
  }

  /**
   * A manager has told which of the volumes that it was asked about are somebody else's. Others that are suspended are this
   * client's own still.
   */
  told(lost: readonly Lost[]): void {
    for (const { volumeId, generation, state } of lost) {
      const reason = this.suspended.get(volumeId)?.reason ?? 'another client has attached it, and serves it';
      if (state === 'serves') this.parts.depose(volumeId, reason);
      else if (state === 'free') void this.attach(volumeId, generation);
    }
    for (const [volumeId, { generation }] of this.suspended) {
      if (!lost.some((one) => one.volumeId === volumeId)) void this.attach(volumeId, generation);
    }
  }

  /** All current copies of a group were opened anew. Whoever has attached the volume since goes first. */
  async begin(volume: HostedVolume, reason: string): Promise<void> {
    if (this.suspend(volume.id, reason)) await this.attachNow(volume, this.generationOf(volume.id));
  }

  private generationOf(volumeId: string): Generation {
    const known = this.suspended.get(volumeId);
    check(known !== undefined, 'a volume is attached anew that was not suspended', this.suspended.size);
    return known.generation;
  }

  private async attach(volumeId: string, instead: Generation): Promise<void> {
    const { node } = this.parts;
    if (this.attaching.has(volumeId)) return;
    this.attaching.add(volumeId);
    try {
      await node.turns.volumes.take([volumeId], () => this.attachInTurn(volumeId, instead));
    } catch (error) {
      // No turn comes any more where the node is being closed.
      if (!(error instanceof StrakeError)) throw error;
    } finally {
      this.attaching.delete(volumeId);
    }
  }

  private async attachInTurn(volumeId: string, instead: Generation): Promise<void> {
    const volume = this.parts.node.volumes.get(volumeId);
    // Somebody may have given it up, or attached it by hand.
    if (volume === undefined || !volume.engine?.serving) return;
    const { generation } = volume.engine.record;
    // It may have been attached by this client itself, and goes on.
    if (generation > instead || (generation === instead && !this.isSuspended(volumeId))) return;
    if (this.suspend(volume.id, 'it is attached anew')) await this.attachNow(volume, instead);
  }

  private async attachNow(volume: HostedVolume, instead: Generation): Promise<void> {
    const { node, authority, depose } = this.parts;
    const { id } = volume;
    check(this.suspended.has(id), 'a volume is attached anew whose requests go on', instead);
    check(instead >= this.generationOf(id), 'a volume is attached anew in the place of an earlier generation', instead);
    try {
      await node.host.restart(volume, instead);
      this.forget(id);
      volume.reason = '';
    } catch (error) {
      const { code, message } = toStrakeError(error);
      authority.giveUp(id, message);
      volume.reason = message;
      if (FINAL.has(code) || !volume.ownEngine?.suspended) depose(id, message);
    }
  }
}
