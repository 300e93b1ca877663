/**
 * What is to happen to a whole cluster in a trial: a function of its seed, and of the faults that are asked for.
 *
 * Processes are counted: the manager is 0, then come the nodes, then the clients. As in a plan of one node, everything random
 * while it is carried out draws from streams of its own, so that a plan shrinks.
 */

import type { LoadPlan } from '../trial/plan.js';
import { SimRandom } from '../world/random.js';

/** Kinds of faults, as they can be chosen by name. */
export const CLUSTER_FAULT_KINDS = [
  'attach',
  'kill',
  'power',
  'pause',
  'cut',
  'reset',
  'slow',
  'clock',
  'store',
  'disk',
  'readers',
] as const;
export type ClusterFaultKind = (typeof CLUSTER_FAULT_KINDS)[number];

/** What becomes of whoever holds the volume when another client attaches it. */
export type HolderFate = 'lives' | 'dies' | 'pauses' | 'closes';

/** What the store of the manager does: answers late, is full, or its process dies before or after a batch is durable. */
export type StoreFate = 'slow' | 'full' | 'dies-before' | 'dies-after';

/** Those that something happens of: readers are just there. */
type ActionKind = Exclude<ClusterFaultKind, 'readers'>;

function acts(kind: ClusterFaultKind): kind is ActionKind {
  return kind !== 'readers';
}

/** What happens to the store; `older`: the manager starts with a copy of it from before. */
export type StoreAction = StoreFate | 'older';

/** As what a device comes back. */
export type ReturnKind = 'older' | 'clone' | 'empty';

/**
 * What happens to the clocks of a host: it sleeps, which BOOTTIME counts and the monotonic clock does not; it is a guest that
 * is frozen, which neither counts, but REALTIME does; or REALTIME is set.
 */
export type ClockFate = 'sleep' | 'freeze' | 'realtime';

interface At {
  /** Number of the action in its plan; it stays the same when others are taken away. */
  readonly number: number;
  /** When it happens, in milliseconds; later, if it has to wait. */
  readonly atMs: number;
}

export type ClusterAction = At &
  (
    | {
        readonly kind: 'attach';
        /** How many clients behind the holder, in the order of their numbers; 0 is the holder itself. */
        readonly client: number;
        readonly holder: HolderFate;
        /** How long the holder stands still, if it does. */
        readonly forMs: number;
      }
    /** A process dies; `again`: and that often again within a lease. */
    | { readonly kind: 'kill'; readonly party: number; readonly downMs: number; readonly again: number }
    /** The host of a process loses power. */
    | { readonly kind: 'power'; readonly party: number; readonly downMs: number }
    /** A process stands still; `within`: in the middle of what it does, after so many completions. */
    | { readonly kind: 'pause'; readonly party: number; readonly forMs: number; readonly within: number }
    /** Nothing goes from one host to another; `both`: nor back. */
    | {
        readonly kind: 'cut';
        readonly from: number;
        readonly to: number;
        readonly both: boolean;
        readonly forMs: number;
      }
    /** A host is cut off from all others. */
    | { readonly kind: 'cut-off'; readonly party: number; readonly forMs: number }
    | { readonly kind: 'reset'; readonly one: number; readonly other: number }
    | {
        readonly kind: 'slow';
        readonly node: number;
        readonly device: number;
        readonly byMs: number;
        readonly forMs: number;
      }
    /** A host sleeps, is frozen with its clocks, or somebody sets its REALTIME. */
    | { readonly kind: 'clock'; readonly party: number; readonly how: ClockFate; readonly byMs: number }
    | { readonly kind: 'store'; readonly how: StoreAction; readonly forMs: number }
    /** A node dies, and one of its devices comes back as an earlier image, beside its clone, or empty. */
    | {
        readonly kind: 'disk';
        readonly node: number;
        readonly device: number;
        readonly how: ReturnKind;
        readonly downMs: number;
      }
  );

export interface ClusterPlan extends LoadPlan {
  readonly copies: 2 | 3;
  readonly nodes: number;
  /** Devices of each node. */
  readonly devices: number;
  /** Processes with an engine. */
  readonly clients: number;
  /** Processes that only read the volume, behind the clients; none if it does not say so. */
  readonly readers?: number;
  /** NBD connections to each client. */
  readonly connections: number;
  readonly deviceLatencyUs: readonly [number, number];
  /** Milliseconds of the clocks of each process's host in one of the world's. */
  readonly clockRates: readonly number[];
  /** Connections that the manager and each node take; default: what the largest plan needs. */
  readonly peers?: number;
  readonly endMs: number;
  readonly actions: readonly ClusterAction[];
}

/** At most. */
export const NODES_MAX = 4;
export const DEVICES_MAX = 2;
export const CLIENTS_MAX = 3;
export const READERS_MAX = 2;

const PLAN_MS = 20_000;
/** Time in which one action is expected, on average. */
const ACTION_MS = 2_000;
/** Pauses from which on leases have ended. */
const PAUSES_MS: readonly number[] = [5, 300, 1_200, 2_500, 6_000];

type Draft = ClusterAction extends infer Action ? (Action extends At ? Omit<Action, keyof At> : never) : never;

interface Size {
  readonly nodes: number;
  readonly clients: number;
  readonly devices: number;
}

function others(parties: number, party: number, random: SimRandom): number {
  return (party + 1 + random.below(parties - 1)) % parties;
}

/** Draws an action of this kind. */
function draftOf(kind: ActionKind, random: SimRandom, { nodes, clients, devices }: Size): Draft {
  const parties = 1 + nodes + clients;
  const party = random.below(parties);
  switch (kind) {
    case 'attach': {
      const holder = random.pick<HolderFate>(['lives', 'lives', 'dies', 'pauses', 'closes']);
      return {
        kind,
        client: random.below(8) === 0 ? 0 : random.between(1, clients - 1),
        holder,
        forMs: random.pick(PAUSES_MS),
      };
    }
    case 'kill': {
      const again = random.below(6) === 0 ? random.between(1, 4) : 0;
      return { kind, party, downMs: random.pick([random.between(1, 300), random.between(300, 4_000)]), again };
    }
    case 'power':
      return { kind, party, downMs: random.pick([random.between(1, 300), random.between(300, 4_000)]) };
    case 'pause':
      return { kind, party, forMs: random.pick(PAUSES_MS), within: random.pick([0, 0, 1, 2, 5]) };
    case 'cut': {
      const forMs = random.pick([random.between(1, 900), random.between(900, 6_000)]);
      if (random.below(4) === 0) return { kind: 'cut-off', party, forMs };
      return { kind, from: party, to: others(parties, party, random), both: random.chance(0.5), forMs };
    }
    case 'reset':
      return { kind, one: party, other: others(parties, party, random) };
    case 'slow': {
      const device = random.below(devices);
      return {
        kind,
        node: random.below(nodes),
        device,
        byMs: random.between(1, 200),
        forMs: random.between(10, 2_000),
      };
    }
    case 'clock': {
      const how = random.pick<ClockFate>(['sleep', 'freeze', 'realtime']);
      if (how !== 'realtime') return { kind, party, how, byMs: random.pick(PAUSES_MS) };
      return { kind, party, how, byMs: random.pick([50, 150, 2_500, 86_400_000]) * random.pick([-1, 1]) };
    }
    case 'store': {
      const how = random.pick<StoreAction>(['slow', 'full', 'dies-before', 'dies-after', 'older']);
      return { kind, how, forMs: random.between(1, 2_000) };
    }
    default: {
      const how = random.pick<ReturnKind>(['older', 'older', 'clone', 'empty']);
      return { kind, node: random.below(nodes), device: random.below(devices), how, downMs: random.between(1, 2_000) };
    }
  }
}

function actionsOf(size: Size, faults: readonly ActionKind[], random: SimRandom): ClusterAction[] {
  // Plans in which few kinds of faults happen often find other bugs than those with some of each.
  const some = faults.filter((kind) => kind === 'attach' || random.chance(0.5));
  const actions: ClusterAction[] = [];
  if (some.length === 0) return actions;
  const everyMs = ACTION_MS * random.pick([0.25, 0.5, 1, 2]);
  for (let atMs = random.between(500, 1_500); atMs < PLAN_MS; atMs += random.between(1, 2 * everyMs)) {
    actions.push({ number: actions.length + 1, atMs, ...draftOf(random.pick(some), random, size) });
  }
  return actions;
}

/** What may happen to who only reads. */
const READER_FAULTS: readonly ActionKind[] = ['kill', 'pause', 'cut', 'reset', 'clock'];

/** How many only read, and what happens to them, beside all else. */
function readersOf(
  size: Size,
  actions: readonly ClusterAction[],
  faults: readonly ClusterFaultKind[],
  random: SimRandom,
): Pick<ClusterPlan, 'readers' | 'actions'> {
  if (!faults.includes('readers')) return { actions };
  const readers = random.pick([0, 1, 1, READERS_MAX]);
  const some = READER_FAULTS.filter((kind) => faults.includes(kind) && random.chance(0.5));
  if (readers === 0 || some.length === 0) return { readers, actions };
  const others = 1 + size.nodes + size.clients;
  const own = Array.from({ length: random.between(0, 6) }, (_, at): ClusterAction => {
    const draft = draftOf(random.pick(some), random, size);
    const reader = others + random.below(readers);
    const named =
      'party' in draft ? { party: reader } : 'from' in draft ? { from: reader } : 'one' in draft ? { one: reader } : {};
    return { number: actions.length + 1 + at, atMs: random.between(500, PLAN_MS), ...draft, ...named };
  });
  return { readers, actions: [...actions, ...own].sort((one, other) => one.atMs - other.atMs) };
}

/** Draws the plan of a trial. `faults` are the kinds that may happen. */
export function clusterPlanOf(seed: number, faults: readonly ClusterFaultKind[]): ClusterPlan {
  const random = new SimRandom(seed).fork('cluster');
  const copies = random.pick([2, 2, 2, 3] as const);
  const nodes = copies + random.pick([0, 1, 1]);
  const clients = random.pick([2, 2, 3]);
  const devices = random.pick([1, 1, 2]);
  const segments = random.pick([4, 8, 16]);
  const size = { nodes, clients, devices };
  const rates = Array.from({ length: 1 + nodes + clients }, () => random.pick([1, 1, 1, 0.98, 1.02]));
  return {
    ...{ seed, copies, nodes, devices, clients, segments, segmentBytes: 64 << 10 },
    connections: random.between(1, 3),
    depth: random.pick([1, 2, 4, 8]),
    burst: random.pick([4, 16, 64]),
    thinkMs: random.between(20, 200),
    hotSegments: random.between(1, Math.min(4, segments)),
    ragged: random.pick([0, 0.05, 0.3]),
    sealed: false,
    deviceLatencyUs: random.pick([
      [20, 200],
      [5, 20],
      [20, 5_000],
    ] as const),
    networkLatencyUs: random.pick([
      [10, 60],
      [1, 2],
      [10, 3_000],
    ] as const),
    networkLoss: 0,
    clockRates: rates,
    endMs: PLAN_MS,
    ...readersOf(size, actionsOf(size, faults.filter(acts), random.fork('actions')), faults, random.fork('readers')),
  };
}
