/** A volume of a trial: what its clients have seen of it, and what the trial itself asks of it over connections of its own. */

import { SECTOR_BYTES } from '../../core/limits.js';
import { CMD_FLUSH, CMD_READ } from '../../nbd/protocol.js';
import { NbdSession, type SessionRequest } from '../net/nbd-session.js';
import { VolumeHistory } from '../oracle/history.js';
import { Payload } from '../oracle/payload.js';
import type { SimHost } from '../world/host.js';
import type { SimProcess } from '../world/process.js';
import type { LoadPlan } from './plan.js';
import { SimViolation, type TrialWorld } from './trial-world.js';

/** Read at once when everything is read. */
const SWEEP_SECTORS = 128;

/** Who serves a volume, as far as a client has to know. */
export interface Server {
  readonly address: string;
  readonly process: SimProcess;
  /** Requests may be answered with EIO: the only copy has been damaged, or another has the right to write. */
  readonly mayFail: boolean;
  /** By which the history tells who was asked; 0 where only one is. */
  readonly writer: number;
}

export class TrialVolume {
  readonly name: string;
  readonly id: string;
  readonly history: VolumeHistory;
  /** Sectors that clients use. */
  readonly sectors: number;
  private readonly trial: TrialWorld<LoadPlan>;
  private readonly server: Server;
  private readonly host: SimHost;

  /** `host` is where connections of the trial itself come from. */
  constructor(trial: TrialWorld<LoadPlan>, server: Server, host: SimHost, { name, id }: { name: string; id: string }) {
    const { plan } = trial;
    this.trial = trial;
    this.server = server;
    this.host = host;
    this.name = name;
    this.id = id;
    this.sectors = (plan.segments * plan.segmentBytes) / SECTOR_BYTES;
    this.history = new VolumeHistory({ sectors: this.sectors, payload: new Payload({ sealed: plan.sealed }) });
  }

  /** A connection of its own; undefined if the volume is not offered. */
  private async connect(): Promise<NbdSession | undefined> {
    const { trial, server } = this;
    let serving: boolean | undefined;
    const peer = trial.network.connect(this.host, server.address);
    const session = new NbdSession(peer, this.name, true, (state) => {
      serving = state;
    });
    await trial.until(() => serving !== undefined, server.process);
    return serving === true ? session : undefined;
  }

  /** Makes durable what has been acknowledged. Returns whether it is; an error is a failure of the trial unless it `mayFail`. */
  async flush(mayFail = this.server.mayFail): Promise<boolean> {
    const { trial, history, server } = this;
    const session = await this.connect();
    if (session === undefined) return false;
    history.writer = server.writer;
    const slot = history.beginFlush(trial.nowUs);
    let result: number | undefined;
    const ended = ({ error }: SessionRequest) => {
      result = error;
      history.end(slot, error === 0, trial.nowUs);
    };
    session.send({ type: CMD_FLUSH, offset: 0, length: 0, bytes: null, at: 0, error: 0, ended }, 0);
    await trial.until(() => result !== undefined, server.process);
    session.finish();
    if (result !== 0 && !mayFail) throw new SimViolation(`a flush was answered with error ${result}`);
    return result === 0;
  }

  /** Reads all of the volume over a connection of its own. */
  async sweep(): Promise<void> {
    const { history } = this;
    const session = await this.connect();
    if (session === undefined) throw new SimViolation(`the volume ${this.name} is not offered`);
    for (let sector = 0; sector < this.sectors; sector += SWEEP_SECTORS) {
      const slot = history.beginRead(sector, SWEEP_SECTORS, this.trial.nowUs);
      await this.readSectors(session, slot, sector);
    }
    session.finish();
  }

  private readSectors(session: NbdSession, slot: number, sector: number): Promise<void> {
    const { history, trial, server } = this;
    const [offset, length] = [sector * SECTOR_BYTES, SWEEP_SECTORS * SECTOR_BYTES];
    let done = false;
    const ended = ({ bytes, at, error }: SessionRequest) => {
      done = true;
      if (error === 0) history.endRead(slot, bytes ?? new Uint8Array(0), at, trial.nowUs);
      else if (server.mayFail) history.failRead(slot, trial.nowUs);
      else throw new SimViolation(`a read of ${length} bytes at ${offset} was answered with error ${error}`);
    };
    session.send({ type: CMD_READ, offset, length, bytes: null, at: 0, error: 0, ended }, 0);
    return trial.until(() => done, server.process);
  }
}
