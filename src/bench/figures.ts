/** The figures that Strake is held to, computed from a bench's rows, and those that need a measurement of their own. */

import { holesOf } from './minutes.js';
import type { RowResult } from './run.js';

export interface Figure {
  readonly name: string;
  /** What was measured; null if the rows for it were not. */
  readonly value: number | null;
  /** `at least` or `at most`, and the bound. */
  readonly bound: { readonly kind: 'min' | 'max'; readonly value: number };
  readonly met: boolean | null;
}

export function figure(name: string, value: number | null, kind: 'min' | 'max', bound: number): Figure {
  const met = value === null ? null : kind === 'min' ? value >= bound : value <= bound;
  return { name, value, bound: { kind, value: bound }, met };
}

const SERVERS = ['qemu-nbd', 'nbdkit'] as const;

class Rows {
  private readonly byId: ReadonlyMap<string, RowResult>;

  constructor(rows: readonly RowResult[]) {
    this.byId = new Map(rows.map((row) => [row.id, row]));
  }

  /** Median ratio of Strake to a rival. */
  ratio(id: string, rival: string): number | null {
    return this.byId.get(id)?.ratios[rival]?.median ?? null;
  }

  /** The rival server that did best in a row. */
  private better(row: RowResult): string | undefined {
    const present = SERVERS.filter((name) => row.rivals[name] !== undefined);
    return present.sort((one, other) => row.rivals[other] - row.rivals[one])[0];
  }

  ratioToBetter(id: string): number | null {
    const row = this.byId.get(id);
    const better = row && this.better(row);
    return better === undefined ? null : this.ratio(id, better);
  }

  cpuToBetter(id: string): number | null {
    const row = this.byId.get(id);
    const better = row && this.better(row);
    return better === undefined ? null : this.cpu(id, better);
  }

  cpu(id: string, rival: string): number | null {
    const used = this.byId.get(id)?.cpuUsPerOperation;
    return used?.[rival] === undefined ? null : used.strake / used[rival];
  }

  /** Mean latency of Strake to a rival's. */
  latency(id: string, rival: string): number | null {
    const means = this.byId.get(id)?.latencyUsMean;
    return means?.[rival] === undefined ? null : means.strake / means[rival];
  }

  /** Mean latency of Strake, in microseconds. */
  ownLatency(id: string): number | null {
    return this.byId.get(id)?.latencyUsMean.strake ?? null;
  }

  /** The 99.9th percentile of Strake's latency to a rival's. */
  p999(id: string, rival: string): number | null {
    const times = this.byId.get(id)?.latencyUsP999;
    return times?.[rival] === undefined ? null : times.strake / times[rival];
  }

  /** Operations that Strake gives its devices for each request. */
  deviceOperations(id: string): number | null {
    return this.byId.get(id)?.deviceOperations.strake ?? null;
  }

  /** Seconds of a minute in which hardly anything ended. */
  holes(id: string): number | null {
    const course = this.byId.get(id)?.courses.strake;
    return course === undefined ? null : holesOf(course);
  }

  /** What Strake measured, in the row's unit. */
  own(id: string): number | null {
    return this.byId.get(id)?.strake ?? null;
  }

  latencyToBetter(id: string): number | null {
    const row = this.byId.get(id);
    const better = row && this.better(row);
    return better === undefined
      ? null
      : (row as RowResult).latencyUsMean.strake / (row as RowResult).latencyUsMean[better];
  }
}

/** Of volumes, to the same file without one. A mirror on files of one disk writes everything twice to it. */
function volumeFigures(rows: Rows): Figure[] {
  const toRaw = (id: string, bound: number) => figure(`${id} : raw export`, rows.ratio(id, 'raw'), 'min', bound);
  const toHalf = (id: string) => {
    const ratio = rows.ratio(id, 'raw');
    return figure(`${id} : half of raw export`, ratio === null ? null : 2 * ratio, 'min', 0.85);
  };
  const single = ['volume.randread.4k.qd1', 'volume.randwrite.4k.qd1'];
  const toQemu = (id: string, bound: number) => figure(`${id} : qemu-nbd`, rows.ratio(id, 'qemu-nbd'), 'min', bound);
  const fresh = ['volume.fresh.randwrite.4k.qd64', 'volume.fresh.write.1m.qd16'];
  return [
    toRaw('volume.randread.4k.qd64', 0.9),
    toRaw('volume.randwrite.4k.qd64', 0.85),
    toRaw('volume.read.1m.qd16', 0.9),
    toRaw('volume.write.1m.qd16', 0.9),
    ...single.map((id) => figure(`${id} latency : raw export`, rows.latency(id, 'raw'), 'max', 1.15)),
    toQemu('volume.sync.4k.qd1', 0.85),
    toQemu('volume.sync.4k.qd1x16', 1.2),
    ...fresh.map((id) => figure(`${id} : overwrites`, rows.ratio(id, 'overwrite'), 'min', 0.8)),
    toHalf('mirror2.randwrite.4k.qd64'),
    toHalf('mirror2.write.1m.qd16'),
    toRaw('mirror2.randread.4k.qd64', 0.9),
    toRaw('mirror2.read.1m.qd16', 0.9),
  ];
}

/** Of writes over more segments than have active intents, to the narrow ones of the same run, and to the raw export. */
function wideFigures(rows: Rows): Figure[] {
  const narrow = (depth: number) => `volume.randwrite.4k.qd${depth}`;
  const [single, deep] = [1, 64].map((depth) => `volume.wide.randwrite.4k.qd${depth}`);
  const minute = 'volume.wide-minute.randwrite.4k.qd64';
  const to = (id: string, other: string, pick: (of: string) => number | null) => {
    const [one, two] = [pick(id), pick(other)];
    return one === null || two === null ? null : one / two;
  };
  const rate = (id: string) => rows.own(id);
  return [
    figure(`${deep} : ${narrow(64)}`, to(deep, narrow(64), rate), 'min', 0.8),
    figure(`${minute} : ${narrow(64)}`, to(minute, narrow(64), rate), 'min', 0.45),
    figure(
      `${single} latency : ${narrow(1)}`,
      to(single, narrow(1), (id) => rows.ownLatency(id)),
      'max',
      1.3,
    ),
    figure(`${minute}, device operations per write`, rows.deviceOperations(minute), 'max', 2.6),
    figure(`${minute} p99.9 : raw export`, rows.p999(minute, 'raw'), 'max', 4),
    figure(`${minute}, seconds below a quarter of the median`, rows.holes(minute), 'max', 0),
  ];
}

/** Seconds that clients of a cluster wait at most when one of its processes is gone. */
const PAUSES = [
  ['pause.killed', 0.3],
  ['pause.vanished', 1.5],
  ['pause.vanished-client', 2.3],
  ['attach.time', 1],
] as const;

/** Of a mirror whose copies are in two processes, to the same one in one process, and to fio on both files at once. */
function clusterFigures(rows: Rows): Figure[] {
  const id = (name: string) => `cluster.mirror2.${name}`;
  const inside = (name: string, bound: number) =>
    figure(`${id(name)} : inside one process`, rows.ratio(id(name), 'inside'), 'min', bound);
  const twoJobs = (name: string, bound: number) =>
    figure(`${id(name)} : two fio jobs`, rows.ratio(id(name), 'fio'), 'min', bound);
  const single = id('randwrite.4k.qd1');
  return [
    inside('randwrite.4k.qd64', 0.5),
    inside('write.1m.qd16', 0.8),
    figure(`${single} latency : inside one process`, rows.latency(single, 'inside'), 'max', 1.6),
    twoJobs('write.1m.qd16', 0.8),
    twoJobs('read.1m.qd16', 0.85),
    figure(
      'cluster.shards.randwrite.4k.qd64x4 : one shard',
      rows.ratio('cluster.shards.randwrite.4k.qd64x4', 'one'),
      'min',
      1.3,
    ),
    ...PAUSES.map(([name, most]) => figure(`cluster.${name}, seconds`, rows.own(`cluster.${name}`), 'max', most)),
    figure('cluster.idle, percent of a core', rows.own('cluster.idle'), 'max', 1),
  ];
}

/** Of starts beside a device that is not as it should be, which are measured only when that is asked for. */
function startFigures(rows: Rows): Figure[] {
  if (rows.own('start.hangs') === null) return [];
  return [
    figure('start.fails, seconds', rows.own('start.fails'), 'max', 3),
    figure('start.read-only, seconds', rows.own('start.read-only'), 'max', 3),
    figure('start.hangs, seconds', rows.own('start.hangs'), 'max', 35),
  ];
}

/** Of opening, recovery and jobs. A device with a million slots is opened only when that is asked for. */
function nodeFigures(rows: Rows): Figure[] {
  const opened = rows.own('open-million.time') === null ? ['open'] : ['open', 'open-million'];
  return [
    ...opened.flatMap((name) => [
      figure(`${name}.time, seconds`, rows.own(`${name}.time`), 'max', 2),
      figure(`${name}.memory, bytes per used slot`, rows.own(`${name}.memory`), 'max', 128),
    ]),
    figure('idle.memory, MiB beyond a bare Node.js', rows.own('idle.memory'), 'max', 48),
    figure('recovery.time, seconds', rows.own('recovery.time'), 'max', 2),
    figure('jobs.stop, seconds', rows.own('jobs.stop'), 'max', 1),
    ...startFigures(rows),
    ...['scrub', 'rebuild'].flatMap((name) => [
      figure(`${name}.rate : device`, rows.ratio(`${name}.rate`, 'device'), 'min', 0.8),
      figure(`${name}.p99 of clients : alone`, rows.ratio(`${name}.p99`, 'alone'), 'max', 3),
    ]),
  ];
}

/** All figures that can be computed from rows. */
export function figuresOf(results: readonly RowResult[]): Figure[] {
  const rows = new Rows(results);
  const engine = ['randread.4k.qd64', 'randwrite.4k.qd64', 'read.1m.qd16', 'write.1m.qd16'].map((id) => `device.${id}`);
  const small = ['nbd.randread.4k.qd64', 'nbd.randwrite.4k.qd64'];
  const single = ['nbd.randread.4k.qd1', 'nbd.randwrite.4k.qd1'];
  const large = ['nbd.read.1m.qd16', 'nbd.write.1m.qd16'];
  const none = ['null.randread.4k.qd64', 'null.randwrite.4k.qd64'];
  return [
    ...engine.map((id) => figure(`${id} : fio`, rows.ratio(id, 'fio'), 'min', 0.95)),
    ...engine.map((id) => figure(`${id} processor time per operation : fio`, rows.cpu(id, 'fio'), 'max', 1.5)),
    ...small.map((id, at) => figure(`${id} : raw fio`, rows.ratio(id, 'fio'), 'min', [0.8, 0.65][at])),
    ...small.map((id) => figure(`${id} : better rival`, rows.ratioToBetter(id), 'min', 1.1)),
    ...small.map((id) => figure(`${id} server time per operation : better rival`, rows.cpuToBetter(id), 'max', 0.7)),
    ...single.map((id) => figure(`${id} latency : better rival`, rows.latencyToBetter(id), 'max', 0.8)),
    ...large.map((id) => figure(`${id} : better rival`, rows.ratioToBetter(id), 'min', 1.3)),
    ...large.map((id) => figure(`${id} : raw fio`, rows.ratio(id, 'fio'), 'min', 0.9)),
    figure('nbd.sync.4k.qd1 : qemu-nbd', rows.ratio('nbd.sync.4k.qd1', 'qemu-nbd'), 'min', 1.0),
    ...none.flatMap((id) => SERVERS.map((name) => figure(`${id} : ${name}`, rows.ratio(id, name), 'min', 1.2))),
    ...volumeFigures(rows),
    ...wideFigures(rows),
    ...clusterFigures(rows),
    ...nodeFigures(rows),
  ];
}
