/** What is measured: one row per target, access pattern, block size and depth. */

export type Target = 'device' | 'nbd' | 'null';
export type Pattern = 'read' | 'write' | 'randread' | 'randwrite' | 'mixed' | 'sync';
export type Party = 'strake' | 'fio' | 'qemu-nbd' | 'nbdkit';

export interface Row {
  /** Such as `nbd.randread.4k.qd64`. */
  readonly id: string;
  readonly target: Target;
  readonly pattern: Pattern;
  readonly blockBytes: number;
  readonly depth: number;
  /** Operations per second, or 10^6 bytes per second for large blocks. */
  readonly unit: 'iops' | 'MB/s';
  /** Whether it changes what the device holds. */
  readonly writes: boolean;
  readonly parties: readonly Party[];
}

const PARTIES: Record<Target, readonly Party[]> = {
  device: ['strake', 'fio'],
  nbd: ['strake', 'fio', 'qemu-nbd', 'nbdkit'],
  null: ['strake', 'qemu-nbd', 'nbdkit'],
};

function row(target: Target, pattern: Pattern, block: '4k' | '1m', depth: number): Row {
  return {
    id: `${target}.${pattern}.${block}.qd${depth}`,
    target,
    pattern,
    blockBytes: block === '4k' ? 4096 : 1 << 20,
    depth,
    unit: block === '4k' ? 'iops' : 'MB/s',
    writes: pattern !== 'read' && pattern !== 'randread',
    parties: PARTIES[target],
  };
}

function rowsOf(target: Target): Row[] {
  const small = (['randread', 'randwrite'] as const).flatMap((pattern) =>
    [1, 16, 64].map((depth) => row(target, pattern, '4k', depth)),
  );
  const large = [row(target, 'read', '1m', 16), row(target, 'write', '1m', 16)];
  const others = [row(target, 'mixed', '4k', 64), row(target, 'sync', '4k', 1)];
  // A null device has nothing to make durable.
  return target === 'null' ? [...small, ...large] : [...small, ...large, ...others];
}

/** All rows, in the order in which they are measured. */
export const ROWS: readonly Row[] = [...rowsOf('device'), ...rowsOf('nbd'), ...rowsOf('null')];

/** The rows of a smoke run: each target and each pattern once. */
export const SMOKE_ROWS: readonly Row[] = ROWS.filter(({ id }) =>
  [
    'device.randread.4k.qd64',
    'device.write.1m.qd16',
    'nbd.randwrite.4k.qd64',
    'nbd.mixed.4k.qd64',
    'nbd.read.1m.qd16',
    'nbd.sync.4k.qd1',
    'null.randread.4k.qd16',
  ].includes(id),
);
