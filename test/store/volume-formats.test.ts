/** Pages of volumes, byte by byte: those of version 1, and those of replicas. */

import * as assert from 'uvu/assert';
import { decodeReplica, encodeReplica, type ReplicaRecord } from '#strake/store/format/replica-page.js';
import { decodeFlushed, decodeVolume } from '#strake/store/format/volume-page.js';
import { check, run } from '../support/check.js';
import { bytesOf, CLUSTER, DEVICE, POSITION, same, VOLUME } from '../support/golden.js';
import { volumeOf } from '../support/sim-store.js';
import { encodeVolume } from '../support/version-1-page.js';

const MIB = 1 << 20;
const GIB = 2 ** 30;
const NOBODY = { since: { generation: 0, flushNumber: 0 }, incarnation: 0, flushNumber: 0 };

const VOLUME_FIELDS: readonly (readonly [number, string])[] = [
  [0, '53564c31'], // SVL1
  [4, '03000000'],
  [8, DEVICE],
  [24, '0700000000000000'],
  [32, VOLUME],
  [48, '0100000000000000'], // created
  [56, '0000004000000000'], // 1 GiB
  [64, '0500000000000000'], // version of the map
  [72, '0600000000000000 0600000000000000'], // generation, twice
  [88, '02 02 01 02'], // mirror, copies, groups, members of a group
  [92, '00001000'], // bytes of a segment
  [104, '0600000000000000 0504030201000000'], // the flush that is remembered
  [160, '0200 6462'], // name
  [424, '0302'], // version of the name
  [512, DEVICE],
  [512 + 16, '01'], // in sync
  [512 + 40, '0900000000000000 0a00000000000000'], // incarnation, flush number
  [576, CLUSTER],
  [576 + 16, '03'], // offline
  [576 + 24, '0500000000000000 0300000000000000'], // since
];
const VOLUME_RECORD = {
  ...volumeOf(VOLUME, DEVICE),
  name: 'db',
  headerVersion: 0x0203,
  lease: 'released' as const,
  layout: 'mirror' as const,
  copies: 2,
  segmentBytes: MIB,
  versions: [5],
  generation: 6,
  groups: [
    [
      {
        deviceId: DEVICE,
        state: 'in-sync' as const,
        since: { generation: 0, flushNumber: 0 },
        incarnation: 9,
        flushNumber: 10,
        joined: 0,
      },
      {
        deviceId: CLUSTER,
        state: 'offline' as const,
        since: { generation: 5, flushNumber: 3 },
        incarnation: 0,
        flushNumber: 0,
        joined: 0,
      },
    ],
  ],
};

const FLUSHED = { generation: 6, flushNumber: 0x0102_0304_05 };

check('a page of a volume, of version 1', () => {
  const wanted = bytesOf(4096, VOLUME_FIELDS);
  const page = new Uint8Array(4096);
  encodeVolume(page, POSITION, VOLUME_RECORD, FLUSHED);
  same(page, wanted);
  assert.equal(decodeVolume(wanted, 3, DEVICE), VOLUME_RECORD);
  assert.equal(decodeFlushed(wanted), FLUSHED);
});

const HOLDER = '30313233343536373839616263646566';
const REPLICA_FIELDS: readonly (readonly [number, string])[] = [
  [0, '53564c32'], // SVL2
  [4, '03000000'],
  [8, DEVICE],
  [24, '0700000000000000'],
  [32, VOLUME],
  [48, '0100000000000000'], // created
  [56, '0000004000000000'], // 1 GiB
  [64, '0500000001000000'], // version of the map
  [72, '0600000000000000 0400000000000000'], // generation; served generation
  [88, '02 02 01 03'], // mirror, copies, 1, members that are listed
  [92, '00001000'], // bytes of a chunk
  [100, '0201 0302'], // group 258 of 515
  [104, '0600000000000000 0504030201000000'], // the flush that is remembered
  [120, HOLDER],
  [136, '02 00 00 00 02 00 01'], // shared lease; no parity; a chunk a segment; by remainder; answered
  [144, '0302000000000000'], // version of the header
  [152, '01000000'], // live epoch
  [160, '0200 6462'], // name
  [424, '0600000000000000 0203000000000000'], // what is settled
  [498, '0302'], // groups of the range
  [512, DEVICE],
  [512 + 16, '01 00 060504030201'], // in sync, place, joined
  [512 + 40, '0900000000000000 0a00000000000000'], // incarnation, flush number
  [576, CLUSTER],
  [576 + 16, '03 01'], // offline
  [576 + 24, '0500000000000000 0300000000000000'], // since
  [640, HOLDER],
  [640 + 16, '02 01'], // syncing, in the same place
];
const RECORD: ReplicaRecord = {
  map: {
    volume: {
      ...{ id: VOLUME, name: 'db', headerVersion: 0x0203, createdMs: 1, sizeBytes: GIB },
      ...{ layout: 'mirror', copies: 2, segmentBytes: MIB, deleted: false },
    },
    ...{ group: 258, groups: 515, mapVersion: 2 ** 32 + 5, generation: 6, holder: HOLDER, lease: 'shared' },
    members: [
      { ...VOLUME_RECORD.groups[0][0], place: 0, joined: 0x0102_0304_0506 },
      { ...VOLUME_RECORD.groups[0][1], place: 1, joined: 0 },
      { ...NOBODY, deviceId: HOLDER, state: 'syncing', place: 1, joined: 0 },
    ],
  },
  own: { servedGeneration: 4, answered: true, flushed: FLUSHED, settled: { generation: 6, flushNumber: 0x0302 } },
};

check('a page of a replica', () => {
  const wanted = bytesOf(4096, REPLICA_FIELDS);
  const page = new Uint8Array(4096);
  encodeReplica(page, POSITION, RECORD);
  same(page, wanted);
  assert.equal(decodeReplica(wanted, 3, DEVICE), RECORD);
});

check('a page of a replica refuses what belongs to features that are not set, and what contradicts itself', () => {
  const cases: readonly (readonly [number, string, RegExp])[] = [
    [88, '03', /layout is not one/],
    [90, '02', /layout is not one/],
    [89, '04', /lists 3 members for 4 places/],
    [91, '05', /lists 5 members for 2 places/],
    [64, '00000000000001', /version .* is beyond 2\^48/],
    [96, '02', /managed, and nothing proves it/],
    [96, '04', /flags that this version/],
    [100, '0302', /group 515 of 515/],
    [136, '03', /lease is not one/],
    [137, '01', /byte 137 belongs to a feature/],
    [138, '01', /byte 138/],
    [139, '01', /byte 139/],
    [140, '01', /layout is not one/],
    [141, '01', /byte 141/],
    [142, '02', /layout is not one/],
    [143, '01', /byte 143/],
    [144, '00000000000010', /counter at byte 144/],
    [152, '02', /layout is not one/],
    [156, '01', /byte 156/],
    [160, '0001', /name is too long/],
    [162, 'ff', /not UTF-8/],
    [164, '01', /byte 164/],
    [423, '01', /byte 423/],
    [440, '01', /byte 440/],
    [464, '01', /authenticated, and not managed/],
    [480, '01', /byte 480/],
    [488, '01', /byte 488/],
    [498, '0402', /group 258 of 515/],
    [500, '01', /byte 500/],
    [504, '01', /byte 504/],
    [512 + 16, '04', /state of a member/],
    [512 + 17, '02', /place beyond the last/],
    [512 + 56, '01', /reserved byte 568/],
    [576, DEVICE, /names device .* twice/],
    [704, '01', /reserved byte 704/],
    [4095, '01', /reserved byte 4092/],
  ];
  for (const [at, hex, message] of cases) {
    const page = bytesOf(4096, [...REPLICA_FIELDS, [at, hex]]);
    assert.throws(() => decodeReplica(page, 3, DEVICE), message, `byte ${at}`);
  }
  const managed = bytesOf(4096, [...REPLICA_FIELDS, [96, '02'], [464, '01']]);
  assert.is(decodeReplica(managed, 3, DEVICE).map.authentication, `01${'00'.repeat(15)}`);
  assert.throws(
    () => decodeReplica(bytesOf(4096, [...REPLICA_FIELDS, [32, '00'.repeat(16)]]), 3, DEVICE),
    /no identifier/,
  );
});

check('fields of the page of a volume that are reserved are refused unless they are zero', () => {
  for (const at of [100, 159, 512 + 17, 512 + 20, 576 + 56, 640, 4095]) {
    assert.throws(
      () => decodeVolume(bytesOf(4096, [...VOLUME_FIELDS, [at, '01']]), 3, DEVICE),
      undefined,
      `volume ${at}`,
    );
  }
});

run();
