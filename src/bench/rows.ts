/** What is measured: one row per target, access pattern, block size and depth. */

/**
 * `volume`: a volume of one device; `mirror2`: of two, in files of the same disk. Both are served over NBD. `cluster`: such a
 * mirror whose second device belongs to another process. `nbd-tcp`: servers whose clients are in another network namespace.
 * `loop`: a server on the block device that a loop device makes of a file.
 */
export type Target = 'device' | 'nbd' | 'nbd-tcp' | 'loop' | 'null' | 'volume' | 'mirror2' | 'cluster';
export type Pattern = 'read' | 'write' | 'randread' | 'randwrite' | 'mixed' | 'sync';
/**
 * Who or what is measured. In rows of volumes `strake` is the volume, and beside it are `raw`, the same file exported without
 * one; `overwrite`, the same writes where something has been written before; `warm`, the same reads where all tables are in
 * memory. In rows of a loop device `fio` uses that, and `file` is the same server on the file itself. In rows of a
 * cluster, `inside` is the same mirror in one process, and `fio` are two jobs at once on the two files.
 */
export type Party = 'strake' | 'fio' | 'qemu-nbd' | 'nbdkit' | 'raw' | 'overwrite' | 'warm' | 'inside' | 'file';
/**
 * What is special about a row of a volume. `wide`: it is spread over more segments than have active intents at a time, and a
 * cell is over after so many writes; `wide-minute`: the same for a minute.
 */
export type Variant = 'fresh' | 'cold' | 'wide' | 'wide-minute';

/** Part of the measured time that is spent before it, to warm compilers and caches up. */
export const WARM_UP_SHARE = 0.25;

export interface Row {
  /** Such as `nbd.randread.4k.qd64`. */
  readonly id: string;
  readonly target: Target;
  readonly pattern: Pattern;
  readonly blockBytes: number;
  /** Requests in flight of each client. */
  readonly depth: number;
  readonly clients: number;
  /** Operations per second, or 10^6 bytes per second for large blocks. */
  readonly unit: 'iops' | 'MB/s';
  /** Whether it changes what the device holds. */
  readonly writes: boolean;
  readonly parties: readonly Party[];
  readonly variant?: Variant;
  /** Clients and servers are on processors of their own, if there are two: the rate is not that of where they happen to run. */
  readonly pinned?: boolean;
  /** It is measured for a minute, in one round, and what happens in each second of it is told. */
  readonly minute?: boolean;
}

const PARTIES: Record<Target, readonly Party[]> = {
  device: ['strake', 'fio'],
  nbd: ['strake', 'fio', 'qemu-nbd', 'nbdkit'],
  'nbd-tcp': ['strake', 'qemu-nbd', 'nbdkit'],
  loop: ['strake', 'fio', 'file'],
  null: ['strake', 'qemu-nbd', 'nbdkit'],
  volume: ['strake', 'raw'],
  mirror2: ['strake', 'raw'],
  cluster: ['strake', 'inside', 'fio'],
};

function row(target: Target, pattern: Pattern, block: '4k' | '1m', depth: number): Row {
  return {
    id: `${target}.${pattern}.${block}.qd${depth}`,
    target,
    pattern,
    blockBytes: block === '4k' ? 4096 : 1 << 20,
    depth,
    clients: 1,
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

/** Flushers: each client writes a block and flushes, over and over. */
const FLUSHERS = 16;

function volumeRows(): Row[] {
  const small = (['randread', 'randwrite'] as const).flatMap((pattern) =>
    [1, 64].map((depth) => row('volume', pattern, '4k', depth)),
  );
  const large = [row('volume', 'read', '1m', 16), row('volume', 'write', '1m', 16)];
  const flusher: Row = { ...row('volume', 'sync', '4k', 1), parties: ['strake', 'raw', 'qemu-nbd'] };
  const flushers: Row = { ...flusher, id: `${flusher.id}x${FLUSHERS}`, clients: FLUSHERS };
  return [...small, ...large, flusher, flushers];
}

function variantRow(variant: Variant, pattern: Pattern, block: '4k' | '1m', depth: number, rival: Party): Row {
  const plain = row('volume', pattern, block, depth);
  return { ...plain, id: plain.id.replace('volume', `volume.${variant}`), parties: ['strake', rival], variant };
}

/** Rows whose writes go to more segments than the activity log has room for, as on a device of a real size. */
function wideRows(): Row[] {
  const wide = [1, 64].map((depth) => variantRow('wide', 'randwrite', '4k', depth, 'raw'));
  const minutes = (['randwrite', 'mixed'] as const).map((pattern) =>
    variantRow('wide-minute', pattern, '4k', 64, 'raw'),
  );
  return [...wide, ...minutes.map((minute): Row => ({ ...minute, minute: true }))];
}

function mirrorRows(): Row[] {
  const small = (['randread', 'randwrite'] as const).map((pattern) => row('mirror2', pattern, '4k', 64));
  return [...small, row('mirror2', 'read', '1m', 16), row('mirror2', 'write', '1m', 16)];
}

function clusterRow(pattern: Pattern, block: '4k' | '1m', depth: number): Row {
  const plain = row('cluster', pattern, block, depth);
  return { ...plain, id: plain.id.replace('cluster', 'cluster.mirror2'), pinned: block === '1m' };
}

function clusterRows(): Row[] {
  return [
    clusterRow('randread', '4k', 64),
    clusterRow('randwrite', '4k', 1),
    clusterRow('randwrite', '4k', 64),
    clusterRow('read', '1m', 16),
    clusterRow('write', '1m', 16),
  ];
}

/** Rows of volumes. They need files of their own, so `strake bench` has none of them. */
export const VOLUME_ROWS: readonly Row[] = [
  ...volumeRows(),
  variantRow('fresh', 'randwrite', '4k', 64, 'overwrite'),
  variantRow('fresh', 'write', '1m', 16, 'overwrite'),
  variantRow('cold', 'randread', '4k', 64, 'warm'),
  ...wideRows(),
  ...mirrorRows(),
  ...clusterRows(),
];

/** Rows that need root: what they are measured on has to be made by the system first. */
export const ROOT_ROWS: readonly Row[] = [
  row('loop', 'randread', '4k', 64),
  row('loop', 'randwrite', '4k', 1),
  row('loop', 'randwrite', '4k', 64),
  row('loop', 'sync', '4k', 1),
  row('nbd-tcp', 'randread', '4k', 1),
  row('nbd-tcp', 'randread', '4k', 64),
  row('nbd-tcp', 'randwrite', '4k', 64),
  row('nbd-tcp', 'read', '1m', 16),
  row('nbd-tcp', 'write', '1m', 16),
];

/** All rows of raw and null devices, in the order in which they are measured. */
export const ROWS: readonly Row[] = [...rowsOf('device'), ...rowsOf('nbd'), ...rowsOf('null')];

/** The rows of a smoke run: each target and each pattern once. */
export const SMOKE_ROWS: readonly Row[] = [...ROWS, ...ROOT_ROWS, ...VOLUME_ROWS].filter(({ id }) =>
  [
    'device.randread.4k.qd64',
    'device.write.1m.qd16',
    'nbd.randwrite.4k.qd64',
    'nbd.read.1m.qd16',
    'nbd.sync.4k.qd1',
    'null.randread.4k.qd16',
    'loop.randwrite.4k.qd64',
    'nbd-tcp.read.1m.qd16',
    'volume.sync.4k.qd1x16',
    'volume.fresh.randwrite.4k.qd64',
    'volume.cold.randread.4k.qd64',
    'volume.wide.randwrite.4k.qd64',
    'volume.wide-minute.mixed.4k.qd64',
    'mirror2.randwrite.4k.qd64',
    'cluster.mirror2.randwrite.4k.qd64',
  ].includes(id),
);
