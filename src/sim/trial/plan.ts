/**
 * What is to happen in a trial: a function of its seed, and of the faults that are asked for.
 *
 * A plan is data. Everything that is random while it is carried out draws from streams of its own, one for each action and
 * each connection, so a plan of which something is taken away goes on in much the same way: that is what makes a failing
 * plan shrink.
 */

import { SimRandom } from '../world/random.js';

/** Kinds of faults, as they can be chosen by name. */
export const FAULT_KINDS = [
  'kill',
  'power',
  'restart',
  'death',
  'error',
  'rot',
  'silent',
  'slow',
  'pause',
  'network',
  'replace',
  'lie',
  'decay',
  'engine',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** How a device dies. */
export type DeathKind = 'vanish' | 'fail-writes' | 'fail-sync' | 'stuck' | 'late';

/** What becomes of devices whose engine has died: they live on, or are closed in order or die, and are opened again. */
export type DevicesKind = 'live' | 'close' | 'kill' | 'power';

interface At {
  /** Number of the action in its plan; it stays the same when others are taken away. */
  readonly number: number;
  /** The node that it happens to. Devices and connections are counted within it. */
  readonly node: number;
  /** When it happens, in milliseconds; later, if it has to wait until earlier damage is repaired. */
  readonly atMs: number;
}

export type SimAction = At &
  (
    | {
        /** The process dies, by itself or with the power of all devices; `again`: and that often while it recovers. */
        readonly kind: 'kill' | 'power';
        readonly downMs: number;
        readonly again: number;
      }
    | { readonly kind: 'restart'; readonly downMs: number }
    | { readonly kind: 'death'; readonly device: number; readonly how: DeathKind; readonly forMs: number }
    /** Some operations of a device fail. */
    | {
        readonly kind: 'error';
        readonly device: number;
        readonly op: 'read' | 'write' | 'sync';
        readonly count: number;
      }
    /** Bits flip at rest. */
    | { readonly kind: 'rot'; readonly device: number; readonly bits: number }
    /** Writes of data are lost, land elsewhere or are corrupted, with success. */
    | {
        readonly kind: 'silent';
        readonly device: number;
        readonly how: 'lose' | 'misdirect' | 'corrupt';
        readonly count: number;
      }
    | { readonly kind: 'slow'; readonly device: number; readonly byMs: number; readonly forMs: number }
    /** The process stands still. */
    | { readonly kind: 'pause'; readonly forMs: number }
    | {
        readonly kind: 'network';
        readonly connection: number;
        readonly how: 'reset' | 'block-in' | 'block-out' | 'slow-reader';
        readonly forMs: number;
      }
    | { readonly kind: 'replace'; readonly device: number }
    /** A device flushes nothing for a while, and says that it does; then the power fails. */
    | { readonly kind: 'lie'; readonly device: number; readonly forMs: number }
    /** Bits flip at rest in what a device knows of its data, while the process is down. */
    | {
        readonly kind: 'decay';
        readonly device: number;
        readonly bits: number;
        readonly how: 'restart' | 'kill' | 'power';
      }
    /**
     * The process of an engine dies without that of its devices, and another takes its place; `again`: that dies, too. Each time
     * `devices` says what becomes of them meanwhile.
     */
    | {
        readonly kind: 'engine';
        readonly downMs: number;
        readonly again: number;
        readonly devices: DevicesKind;
      }
    | { readonly kind: 'scrub' }
    | { readonly kind: 'grow' }
  );

/** Nodes in one world at most. */
export const NODES_MAX = 2;

/** What the clients of a volume do, and over what kind of network: a part of any plan. */
export interface LoadPlan {
  readonly seed: number;
  /** Size of a volume, in segments. */
  readonly segments: number;
  readonly segmentBytes: number;
  /** Requests of each client in flight, in a burst. */
  readonly depth: number;
  /** Requests of a burst. */
  readonly burst: number;
  /** Between bursts of a client, on average. */
  readonly thinkMs: number;
  /** Segments that get half of the requests. */
  readonly hotSegments: number;
  /** Share of requests that are not of whole blocks. */
  readonly ragged: number;
  /** All content has the same CRC32C. */
  readonly sealed: boolean;
  readonly networkLatencyUs: readonly [number, number];
  readonly networkLoss: number;
}

export interface SimPlan extends LoadPlan {
  /** Storage nodes, each with devices, volumes and clients of its own, as many as the plan says of one. */
  readonly nodes: number;
  /** There is one volume, whose engine is in a process of its own; what happens are `DETACHED_FAULTS`. */
  readonly detached: boolean;
  /** Volumes of a node, over the same devices. */
  readonly volumes: number;
  readonly copies: 1 | 2 | 3;
  readonly devices: number;
  /** How many clients there are. They divide the volumes among them. */
  readonly connections: number;
  /** What a segment to or from the host of a client takes longer, in microseconds, by its number; none is 0. */
  readonly clientDelaysUs: readonly number[];
  /** So many of them are no connections, but programs in the process that use the rings. */
  readonly programs: number;
  readonly deviceLatencyUs: readonly [number, number];
  readonly clockRate: number;
  readonly endMs: number;
  readonly actions: readonly SimAction[];
}

/** Time in which one action is expected, on average. */
const ACTION_MS = 2_000;
/** Longer than a device may take to answer. */
const LONG_PAUSE_MS = 40_000;
const PLAN_MS = 12_000;

type Draft = SimAction extends infer Action ? (Action extends At ? Omit<Action, keyof At> : never) : never;

/** Draws an action of this kind. */
function draftOf(
  kind: FaultKind | 'scrub' | 'grow',
  random: SimRandom,
  plan: { devices: number; connections: number; sealed: boolean },
): Draft {
  const device = random.below(plan.devices);
  switch (kind) {
    case 'kill':
    case 'power':
      return { kind, downMs: random.between(1, 500), again: random.below(4) === 0 ? random.between(1, 3) : 0 };
    case 'restart':
      return { kind, downMs: random.between(1, 200) };
    case 'engine':
      return {
        kind,
        downMs: random.between(0, 50),
        again: random.below(4) === 0 ? random.between(1, 3) : 0,
        devices: random.pick<DevicesKind>(['live', 'live', 'live', 'close', 'kill', plan.sealed ? 'kill' : 'power']),
      };
    case 'death': {
      const how = random.pick<DeathKind>(['vanish', 'vanish', 'fail-writes', 'fail-sync', 'stuck', 'late']);
      return { kind, device, how, forMs: random.between(1, 3_000) };
    }
    case 'error':
      return { kind, device, op: random.pick(['read', 'write', 'sync'] as const), count: random.between(1, 3) };
    case 'rot':
      return { kind, device, bits: random.between(1, 40) };
    case 'silent':
      return { kind, device, how: random.pick(['lose', 'misdirect', 'corrupt'] as const), count: random.between(1, 4) };
    case 'slow':
      return { kind, device, byMs: random.between(1, 200), forMs: random.between(10, 2_000) };
    case 'pause':
      return { kind, forMs: random.below(16) === 0 ? LONG_PAUSE_MS : random.pick([5, 50, 500, 5_000]) };
    case 'network': {
      const how = random.pick(['reset', 'block-in', 'block-out', 'slow-reader'] as const);
      return { kind, how, connection: random.below(plan.connections), forMs: random.between(1, 8_000) };
    }
    case 'replace':
      return { kind, device };
    case 'decay':
      return { kind, device, bits: random.between(1, 20), how: random.pick(['restart', 'kill', 'power'] as const) };
    case 'lie':
      return { kind, device, forMs: random.between(1, 3_000) };
    default:
      return { kind };
  }
}

/** Faults that a volume of one copy cannot survive without loss, or for which it has no other device. */
const NEED_COPIES: readonly FaultKind[] = ['death', 'silent', 'replace', 'lie', 'decay'];
/** After these a device was not closed in order. */
const CRASHES: readonly FaultKind[] = ['kill', 'power', 'error', 'lie', 'decay'];

/** Faults after which nothing but a checksum tells what a device has kept of what it was told. */
const NEED_CHECKSUMS: readonly FaultKind[] = ['power', 'death', 'error', 'silent', 'lie', 'decay'];

/**
 * Whether a fault can be part of a plan, beside others. With one copy, a block that differs from its checksum after a crash
 * counts as a write that was cut off, so rot is not told from it then. Where all content has one checksum, nothing that was
 * lost or misdirected is told from what should be there; nor is a first write whose content a kill has kept from landing, so all
 * that is in flight lands then.
 */
function fits(kind: FaultKind, copies: number, sealed: boolean, crashes: boolean): boolean {
  if (copies === 1 && (NEED_COPIES.includes(kind) || (kind === 'rot' && crashes))) return false;
  return !(sealed && NEED_CHECKSUMS.includes(kind));
}

/** What may happen to a volume whose engine is in a process of its own. */
const DETACHED_FAULTS: readonly FaultKind[] = ['engine', 'slow', 'pause', 'network'];

/** One plan in so many is of an engine in a process of its own, if that may die; all are if nothing else may happen. */
const DETACHED_ONE_IN = 8;

/** What of a plan is drawn first. */
interface PlanSize {
  readonly copies: 1 | 2 | 3;
  readonly devices: number;
  readonly connections: number;
}

function isDetached(seed: number, faults: readonly FaultKind[]): boolean {
  if (!faults.includes('engine')) return false;
  const others = faults.some((kind) => !DETACHED_FAULTS.includes(kind));
  return !others || new SimRandom(seed).fork('detached').below(DETACHED_ONE_IN) === 0;
}

/** Makes a plan one of an engine in a process of its own, and the faults that may happen to it. */
function detachedPlan(plan: SimPlan, faults: readonly FaultKind[]): SimPlan {
  const random = new SimRandom(plan.seed).fork('engine');
  const copies = random.pick([2, 2, 3] as const);
  const devices = copies * random.pick([1, 1, 1, 2]);
  const size = { copies, devices, connections: plan.connections };
  const about = { ...size, sealed: plan.sealed };
  const others = DETACHED_FAULTS.filter((kind) => kind !== 'engine' && faults.includes(kind));
  const actions: SimAction[] = [];
  for (let atMs = random.between(1, ACTION_MS); atMs < PLAN_MS; atMs += random.between(1, ACTION_MS)) {
    const kind = others.length === 0 || random.chance(0.5) ? 'engine' : random.pick(others);
    actions.push({ number: actions.length + 1, node: 0, atMs, ...draftOf(kind, random, about) });
  }
  return { ...plan, ...size, nodes: 1, detached: true, volumes: 1, programs: 0, actions };
}

/** What happens when in the plan of nodes. */
function actionsOf(
  { copies, devices, connections }: PlanSize,
  faults: readonly FaultKind[],
  sealed: boolean,
  random: SimRandom,
  nodeOf: () => number,
): SimAction[] {
  // Plans in which few kinds of faults happen often find other bugs than those with some of each.
  const some = faults.filter(() => random.chance(0.6));
  const crashes = some.some((kind) => CRASHES.includes(kind));
  const chosen = some.filter((kind) => fits(kind, copies, sealed, crashes));
  const actions: SimAction[] = [];
  const everyMs = ACTION_MS * random.pick([0.25, 0.5, 1, 2]);
  for (let atMs = 0; ; ) {
    atMs += random.between(1, 2 * everyMs);
    if (atMs >= PLAN_MS) return actions;
    const kind =
      random.below(8) === 0 || chosen.length === 0 ? random.pick(['scrub', 'grow'] as const) : random.pick(chosen);
    const node = nodeOf();
    actions.push({
      number: actions.length + 1,
      node,
      atMs,
      ...draftOf(kind, random, { devices, connections, sealed }),
    });
  }
}

/** Draws the plan of a trial. `faults` are the kinds that may happen. */
export function planOf(seed: number, faults: readonly FaultKind[]): SimPlan {
  const random = new SimRandom(seed).fork('plan');
  const copies = random.pick([1, 2, 2, 2, 3] as const);
  const devices = copies === 1 ? 1 : copies + (random.below(3) === 0 ? copies : 0);
  // A stream of its own: what else is drawn is older than several nodes and volumes are.
  const shape = new SimRandom(seed).fork('shape');
  const nodes = shape.below(8) === 0 ? NODES_MAX : 1;
  const volumes = shape.pick([1, 1, 1, 2]);
  const connections = Math.max(volumes, random.between(1, 4));
  const segments = random.pick([4, 8, 16, 32]);
  const sealed = random.below(8) === 0;
  const attached = faults.filter((kind) => kind !== 'engine');
  const size = { copies, devices, connections };
  const actions = actionsOf(size, attached, sealed, random, () => shape.below(nodes));
  const plan = {
    seed,
    nodes,
    detached: false,
    volumes,
    copies,
    devices,
    segments,
    segmentBytes: 64 << 10,
    connections,
    clientDelaysUs: Array.from({ length: connections }, () => shape.pick([0, 0, 100, 2_000])),
    // A stream of its own: what else is drawn is older than programs are.
    programs: Math.min(connections, new SimRandom(seed).fork('programs').pick([0, 0, 1, 2])),
    depth: random.pick([1, 2, 4, 8, 16]),
    burst: random.pick([4, 16, 64]),
    thinkMs: random.between(50, 450),
    hotSegments: random.between(1, Math.min(4, segments)),
    ragged: random.pick([0, 0.05, 0.3]),
    sealed,
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
    networkLoss: random.pick([0, 0, 0.01]),
    clockRate: random.pick([1, 1, 0.9, 1.1]),
    endMs: PLAN_MS,
    actions,
  };
  return isDetached(seed, faults) ? detachedPlan(plan, faults) : plan;
}
