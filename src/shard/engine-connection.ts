/**
 * The connection from the shard that decides about a node's volumes to another that runs engines of them: requests go by rings,
 * control calls by messages, in both directions.
 */

import { AwayEngine } from '../across/away-engine.js';
import type { AuthorityCalls, EngineCalls, EngineNumber } from '../across/engine-calls.js';
import { VolumeAsker } from '../across/volume-asker.js';
import { StrakeError } from '../core/errors.js';
import { ENGINES_THERE_MAX } from '../core/limits.js';
import type { Engine } from '../uring/engine.js';
import type { EngineElsewhere, EngineHooks, EngineOpening, EngineShard } from '../volumes/engine-elsewhere.js';
import type { ConnectControl } from '../worker/messages.js';
import { answerCalls, PortAsker } from '../worker/port-calls.js';

export class EngineConnection implements EngineShard {
  private readonly asker: VolumeAsker;
  private readonly calls: PortAsker<EngineCalls>;
  private readonly control: ConnectControl;
  private readonly shard: number;
  /** Engines that are there, by their numbers. */
  private readonly engines = new Map<EngineNumber, AwayEngine>();
  private opening = 0;

  constructor(engine: Engine, shard: number, otherEngine: number, control: ConnectControl) {
    this.shard = shard;
    this.control = control;
    this.asker = new VolumeAsker({
      ...{ completions: engine, memory: engine, link: control.volumes },
      wake: () => engine.wake(otherEngine),
      inBatch: () => engine.inBatch,
      takeCopies: () => engine.native.take(),
    });
    this.calls = new PortAsker<EngineCalls>(control.engines);
    answerCalls<AuthorityCalls>(control.authority, (name, request) => this.answer(name, request));
  }

  get hasRoom(): boolean {
    return !this.asker.lost && this.engines.size + this.opening < ENGINES_THERE_MAX;
  }

  drain(): void {
    this.asker.drain();
  }

  async open(opening: EngineOpening, hooks: EngineHooks): Promise<EngineElsewhere> {
    this.opening += 1;
    try {
      const { engine: number, report } = await this.calls.call('openEngine', opening);
      const { asker, shard, calls: caller } = this;
      const onEnd = ({ number: ended }: AwayEngine) => this.engines.delete(ended);
      const engine = new AwayEngine({ caller, asker, shard, number, hooks, onEnd }, opening.map, report);
      this.engines.set(number, engine);
      return engine;
    } finally {
      this.opening -= 1;
    }
  }

  /** What an engine asks of whoever decides about its volume. */
  private async answer<Name extends keyof AuthorityCalls>(
    name: Name,
    request: AuthorityCalls[Name]['request'],
  ): Promise<AuthorityCalls[Name]['response']> {
    const engine = this.engines.get(request.engine);
    // What was told of one that has been closed meanwhile concerns nobody.
    if (engine === undefined) throw new StrakeError('CLOSED', 'the volume is served no more');
    return (await this.carryOut(name, request, engine)) as AuthorityCalls[Name]['response'];
  }

  private async carryOut(name: keyof AuthorityCalls, request: unknown, engine: AwayEngine): Promise<unknown> {
    const asked = <Name extends keyof AuthorityCalls>() => request as AuthorityCalls[Name]['request'];
    if (name === 'change') {
      const change = await engine.change(asked<'change'>().map);
      if (change.kind === 'refused') throw change.error;
      return change;
    }
    if (name === 'makeRoom') await engine.makeRoom(asked<'makeRoom'>().deviceIds);
    else if (name === 'event') engine.noteEvent(asked<'event'>().event);
    else engine.noteJob(asked<'job'>().job);
    return null;
  }

  /** Asks what all engines there say now. */
  async refresh(): Promise<void> {
    if (this.asker.lost || this.engines.size === 0) return;
    for (const [number, report] of await this.calls.call('reports', null)) this.engines.get(number)?.learn(report);
  }

  /** What may take long comes to an end: the node is about to be closed. */
  endWork(): Promise<null> {
    return this.calls.call('endEngineWork', null);
  }

  /** The other shard has died. See `VolumeAsker.lose`. */
  lose(error: StrakeError, mayGoOn: boolean): void {
    this.calls.lose(error);
    this.close();
    this.asker.lose(mayGoOn);
    for (const engine of this.engines.values()) engine.fall();
  }

  /** What was asked of the shard that has died has ended. */
  dispose(): void {
    this.asker.dispose();
  }

  /** Nothing is asked any more; all engines there have been closed. */
  close(): void {
    this.control.engines.close();
    this.control.authority.close();
  }
}
