/** What happens to the processes of a cluster, its hosts, clocks, disks and network, as a plan says. */

import { SimRandom } from '../world/random.js';
import type { Cluster } from './cluster.js';
import type { ClusterClient } from './cluster-client.js';
import type { ClusterAction, ClusterPlan } from './cluster-plan.js';
import { unlessDied } from './cluster-world.js';

import type { Party } from './party.js';

type ActionOf<Kind extends ClusterAction['kind']> = Extract<ClusterAction, { readonly kind: Kind }>;

/** Between the deaths of a process that dies again and again: less than a lease. */
const AGAIN_MS: readonly [number, number] = [1, 700];

export class ClusterFaults {
  private readonly cluster: Cluster;
  private readonly parties: readonly Party[];
  /** The manager has a copy of its store from before, or is about to. */
  private hasOlderStore = false;
  /** Ends faults that would end by themselves. */
  private readonly passing = new Set<() => void>();
  /** Processes that are to be started again, and attaches that are under way; each ends with the process that it hangs on. */
  private readonly underWay = new Set<Promise<void>>();

  constructor(cluster: Cluster) {
    this.cluster = cluster;
    this.parties = cluster.parties;
  }

  private get plan(): ClusterPlan {
    return this.cluster.world.plan;
  }

  private party(number: number): Party {
    return this.parties[number % this.parties.length];
  }

  async perform(action: ClusterAction): Promise<void> {
    const { world } = this.cluster;
    world.log(`action ${action.number}: ${JSON.stringify(action)}`);
    const random = new SimRandom(this.plan.seed, action.number).fork(action.kind);
    switch (action.kind) {
      case 'attach':
        return this.attach(action, random);
      case 'kill':
        this.goOn(this.kill(action, random));
        return;
      case 'power':
        this.losePower(this.party(action.party), random);
        this.later(action.downMs, () => this.boot(this.party(action.party)));
        return;
      case 'pause':
        this.pause(this.party(action.party), action);
        return;
      case 'cut':
        this.cut(this.party(action.from), this.party(action.to), action.both, action.forMs);
        return;
      case 'cut-off':
        this.cutOff(this.party(action.party), action.forMs);
        return;
      case 'reset':
        world.inner.reset(this.party(action.one).host, this.party(action.other).host);
        return;
      case 'slow':
        this.slow(action);
        return;
      case 'clock':
        this.clock(this.party(action.party), action);
        return;
      case 'store':
        this.store(action);
        return;
      default:
        this.goOn(this.exchangeDisk(action, random));
    }
  }

  /** Notes what goes on by itself. What of it fails is a failure of the trial. */
  private goOn(work: Promise<void>): void {
    this.underWay.add(work);
    work.then(
      () => this.underWay.delete(work),
      (error: unknown) => this.cluster.fail(error),
    );
  }

  private later(afterMs: number, work: () => Promise<void>): void {
    this.goOn(this.cluster.world.pause(afterMs * 1000).then(work));
  }

  private passes(forMs: number, end: () => void): void {
    const once = () => {
      if (this.passing.delete(once)) end();
    };
    this.passing.add(once);
    this.cluster.world.timers.after(forMs * 1000, once);
  }

  // ---------------------------------------------------------------- processes

  private boot(party: Party): Promise<void> {
    this.cluster.world.log(`${party.name} starts`);
    return party.boot().catch(unlessDied);
  }

  private async kill({ party: number, downMs, again }: ActionOf<'kill'>, random: SimRandom): Promise<void> {
    const { world } = this.cluster;
    const party = this.party(number);
    for (let turn = 0; turn <= again; turn += 1) {
      this.end(party, random);
      await world.pause(1000 * (turn === again ? downMs : random.between(...AGAIN_MS)));
      const booted = this.boot(party);
      if (turn === again) await booted;
      else await world.pause(1000 * random.between(...AGAIN_MS));
    }
  }

  /** What its devices have answered by now counts. */
  private end(party: Party, random: SimRandom): void {
    const { world } = this.cluster;
    this.cluster.look();
    world.log(`${party.name} dies`);
    party.die(random);
  }

  private losePower(party: Party, random: SimRandom): void {
    const { cluster } = this;
    const node = cluster.nodes.find((one) => one === party);
    if (node !== undefined) cluster.losePower(node, random);
    else party.losePower(random);
  }

  private pause(party: Party, { forMs, within }: { readonly forMs: number; readonly within: number }): void {
    if (!party.up) return;
    this.cluster.world.log(`${party.name} stands still`);
    if (within > 0) party.process.stallWithin(within, forMs * 1000);
    else party.process.stall(forMs * 1000);
  }

  private clock(party: Party, { how, byMs }: ActionOf<'clock'>): void {
    const { host } = party;
    if (how === 'realtime') host.clock.setRealtime(byMs);
    else host.standStill(how, byMs * 1000);
  }

  // ---------------------------------------------------------------- who has the volume

  private async attach({ client: number, holder: fate, forMs }: ActionOf<'attach'>, random: SimRandom): Promise<void> {
    const { cluster } = this;
    const { holder, clients } = cluster;
    const client = clients[(clients.indexOf(holder) + number) % clients.length];
    const isOther = client !== holder;
    if (isOther && fate === 'dies') {
      holder.die();
      this.later(random.between(0, 2_000), () => this.boot(holder));
    } else if (isOther && fate === 'pauses') this.pause(holder, { forMs, within: random.pick([0, 1, 3]) });
    else if (isOther && fate === 'closes') this.goOn(holder.giveBack());
    this.goOn(this.serve(client));
  }

  /** Attaches the volume at a client, which may come to nothing: another is faster, it dies, nobody is reached. */
  private async serve(client: ClusterClient): Promise<void> {
    if (client.up && (await client.serve(true))) this.cluster.holder = client;
  }

  // ---------------------------------------------------------------- network and disks

  private cut(from: Party, to: Party, both: boolean, forMs: number): void {
    const { inner } = this.cluster.world;
    inner.cut(from.host, to.host);
    this.passes(forMs, () => inner.mend(from.host, to.host));
    if (both) this.cut(to, from, false, forMs);
  }

  private cutOff(party: Party, forMs: number): void {
    for (const other of this.parties) if (other !== party) this.cut(party, other, true, forMs);
  }

  private slow({ node, device, byMs, forMs }: ActionOf<'slow'>): void {
    const { nodes } = this.cluster;
    const { disks } = nodes[node % nodes.length];
    const { faults } = disks[device % disks.length].disk;
    this.passes(forMs, faults.add({ probability: 0.5, action: { kind: 'slow', byUs: byMs * 1000 } }));
  }

  /** A node dies, and a device of it is another one when it starts again. */
  private async exchangeDisk(
    { node: number, device, how, downMs }: ActionOf<'disk'>,
    random: SimRandom,
  ): Promise<void> {
    const { world, nodes } = this.cluster;
    const node = nodes[number % nodes.length];
    const older = node.disks[device % node.disks.length].disk.clone();
    if (how === 'older') await world.pause(1000 * random.between(1, 3_000));
    world.log(`a device of ${node.name} comes back: ${how}`);
    this.end(node, random);
    await world.pause(1000 * downMs);
    // It has been started by somebody else meanwhile, or what it has is all that there is.
    if (node.up || !this.cluster.spares(node.disks[device % node.disks.length].deviceId)) return this.boot(node);
    this.cluster.exchange(node, { device, how }, older, random);
    await this.boot(node);
  }

  // ---------------------------------------------------------------- the manager's store

  private store({ how, forMs }: ActionOf<'store'>): void {
    const { world, manager } = this.cluster;
    if (how !== 'older') {
      manager.setFate(how);
      this.passes(forMs, () => manager.setFate(null));
      return;
    }
    if (this.hasOlderStore) return;
    this.hasOlderStore = true;
    const copy = manager.copyStore();
    this.later(forMs, async () => {
      if (await this.cluster.overtakes(copy.sequence)) {
        world.log(`the manager starts with an older copy of its store: batch ${copy.sequence} of ${manager.sequence}`);
        manager.die();
        manager.takeOlderStore(copy);
        await this.boot(manager);
        await world.pause(1000 * forMs);
        manager.die();
        manager.takeRightStore();
        await this.boot(manager);
      }
      this.hasOlderStore = false;
    });
  }

  // ---------------------------------------------------------------- the end

  /** Faults stop: what is down starts again, and all that goes on comes to its end. */
  async heal(): Promise<void> {
    for (const end of [...this.passing]) end();
    while (this.underWay.size > 0) await Promise.all(this.underWay);
    for (const party of this.parties) if (!party.up) await this.boot(party);
    const awake = () => this.parties.every(({ process }) => !process.stalled);
    await this.cluster.world.until(awake, null, 'all processes go on');
  }
}
