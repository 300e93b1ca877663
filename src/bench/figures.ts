/** The figures that Strake is held to, computed from a bench's rows, and those that need a measurement of their own. */

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

  latencyToBetter(id: string): number | null {
    const row = this.byId.get(id);
    const better = row && this.better(row);
    return better === undefined
      ? null
      : (row as RowResult).latencyUsMean.strake / (row as RowResult).latencyUsMean[better];
  }
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
  ];
}
