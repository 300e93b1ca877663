/**
 * A client of a cluster in a trial that only reads the volume, whoever has it: in each of its lives it attaches it as soon as
 * that can be done, and serves it to connections of its own, which read.
 */

import type { TrialVolume } from '../trial/trial-volume.js';
import { ClusterClient, reasonOf } from './cluster-client.js';
import type { ClusterWorld } from './cluster-world.js';

/** Between attempts to attach the volume. */
const RETRY_US = 200_000;

export class ClusterReader extends ClusterClient {
  /** Told of what must not happen, which nobody waits for. */
  private readonly fail: (error: unknown) => void;

  constructor(cluster: ClusterWorld, volume: TrialVolume, number: number, fail: (error: unknown) => void) {
    super(cluster, volume, number, 'reader');
    this.fail = fail;
  }

  override async boot(): Promise<void> {
    if (this.up) return;
    await super.boot();
    this.keepAttaching();
  }

  /** Requests of its connections that were answered. */
  get answered(): number {
    return this.connections.reduce((sum, { answered }) => sum + answered, 0);
  }

  private keepAttaching(): void {
    const { cluster, process, program, name, volume } = this;
    const told = (text: string) => cluster.log(`${name} ${text}`);
    const again = (error: unknown) => {
      told(`does not read the volume: ${reasonOf(error)}`);
      cluster.timers.after(RETRY_US, () => {
        if (process.alive && this.process === process) this.keepAttaching();
      });
    };
    cluster
      .settle(program.attach(volume.name, { readOnly: true }), process, `${name} attaches the volume`)
      .then(() => told('reads the volume'), again)
      .catch(this.fail);
  }
}
