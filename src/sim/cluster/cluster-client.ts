/**
 * A client of a cluster in a trial: the lives of a process with an engine, which attaches the volume when it is told to, and
 * serves it to connections of its own for as long as nobody takes its place.
 */

import { StrakeError } from '../../core/errors.js';
import { type Program, SimClient } from '../trial/client.js';
import type { MemoryPart } from '../trial/trial-memory.js';
import type { Server, TrialVolume } from '../trial/trial-volume.js';
import type { SimHost } from '../world/host.js';
import type { SimProcess } from '../world/process.js';
import { SimRandom } from '../world/random.js';
import { ClusterProgram, clusterProgramBytes } from './cluster-program.js';
import { type ClusterWorld, ProcessDied } from './cluster-world.js';
import type { Party } from './party.js';

/** What a client does with the volume. */
export type ClientRole = 'client' | 'reader';

export class ClusterClient implements Party, Server, Program {
  readonly name: string;
  readonly address: string;
  readonly host: SimHost;
  /** Whoever loses the right to write answers with errors. */
  readonly mayFail = true;
  /** By which the history tells what this life was asked for from what others were. */
  writer = 0;
  readonly disks: readonly [] = [];
  readonly connections: SimClient[];
  process!: SimProcess;
  program!: ClusterProgram;
  protected readonly cluster: ClusterWorld;
  protected readonly volume: TrialVolume;
  private readonly party: number;
  private readonly memory: MemoryPart;
  private lives = 0;

  constructor(cluster: ClusterWorld, volume: TrialVolume, number: number, role: ClientRole = 'client') {
    const { plan, world } = cluster;
    this.cluster = cluster;
    this.volume = volume;
    this.party = cluster.nextParty();
    this.name = `${role} ${number}`;
    this.address = `export ${number}`;
    this.host = world.addHost(this.name, { clockRate: cluster.clockRate(this.party) });
    this.memory = cluster.memory(clusterProgramBytes(0));
    this.connections = Array.from({ length: plan.connections }, (_, at) => {
      const host = world.addHost(`connection ${number}.${at}`);
      const random = new SimRandom(plan.seed + number, at + 1).fork('client');
      const place = {
        number: number * plan.connections + at,
        volume: 0,
        inside: false,
        reads: role === 'reader',
        host,
      };
      return new SimClient(cluster, this, volume, place, random);
    });
  }

  get up(): boolean {
    return this.process?.alive ?? false;
  }

  async boot(): Promise<void> {
    if (this.up) return;
    const { cluster, host, memory, name, party } = this;
    const { time } = cluster;
    if (!host.up) host.powerOn();
    this.lives += 1;
    this.writer = cluster.nextWriter();
    time.trace.add('boot', time.nowUs, party, this.lives, 0);
    const seed = cluster.seedOf(party, this.lives);
    this.process = host.start({ seed, arena: memory.bytes, touched: memory.touched });
    this.program = new ClusterProgram(this.process, {
      ...{ network: cluster.network, inner: cluster.inner, address: this.address, devices: 0, node: null },
      clientId: cluster.nextClientId(),
      onEvent: (text) => cluster.log(`${name}: ${text}`),
    });
    for (const connection of this.connections) connection.attach(this);
  }

  /**
   * Attaches the volume and serves it; resolves to whether that is so. Whatever others were asked for before has taken effect by
   * then, or never does.
   */
  async serve(takeOver: boolean): Promise<boolean> {
    const { cluster, process, program, name, volume } = this;
    cluster.log(`${name} attaches the volume${takeOver ? ', and takes it over' : ''}`);
    try {
      await cluster.settle(program.attach(volume.name, { takeOver }), process, `${name} attaches the volume`);
    } catch (error) {
      cluster.log(`${name} does not get the volume: ${reasonOf(error)}`);
      return false;
    }
    if (!process.alive || !program.serves(volume.name)) return false;
    volume.history.fence(this.writer, cluster.nowUs);
    cluster.log(`${name} serves`);
    return true;
  }

  /** Whether it serves the volume now. */
  get serves(): boolean {
    return this.up && this.program.serves(this.volume.name);
  }

  /** What goes on in it, for people. */
  *goesOn(): Iterable<string> {
    const { name, up, process, program } = this;
    if (!up) yield `${name} is dead`;
    else yield `${name}${process.stalled ? ' stands still, and' : ''} ${program.describe(this.volume.name)}`;
    for (const { waitsFor } of this.connections) if (waitsFor !== null) yield waitsFor;
  }

  /** Gives the volume back in order, if it has it. */
  async giveBack(): Promise<void> {
    const { cluster, process, program, name, volume } = this;
    if (!this.serves) return;
    cluster.log(`${name} gives the volume back`);
    try {
      await cluster.settle(program.detach(volume.name), process, `${name} gives the volume back`);
    } catch (error) {
      cluster.log(`${name} does not give the volume back in order: ${reasonOf(error)}`);
    }
  }

  private ended(): void {
    for (const connection of this.connections) connection.detach();
    this.volume.history.killed(this.cluster.nowUs, this.writer);
  }

  die(): void {
    if (!this.up) return;
    this.process.kill();
    this.ended();
  }

  losePower(random: SimRandom): void {
    if (!this.host.up) return;
    const { up } = this;
    this.host.powerOff(random);
    if (up) this.ended();
  }

  /** Waits until its connections have been answered, and ask for nothing more. */
  async rest(): Promise<void> {
    for (const connection of this.connections) connection.stop();
    const idle = () => this.connections.every((one) => one.idle);
    await this.cluster.until(idle, this.process, `the requests of ${this.name} are answered`);
  }

  /** No program is inside of its process. */
  ringsOf(): null {
    return null;
  }
}

/** Why a client has not done what it was told to. Anything that must not happen is thrown. */
export function reasonOf(error: unknown): string {
  if (error instanceof StrakeError || error instanceof ProcessDied) return error.message;
  throw error;
}
