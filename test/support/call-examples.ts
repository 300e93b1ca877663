/** Examples of each call of a manager, and of its answer: for the frames of `docs/wire-protocol.md`, and for tests of what arrives. */

import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import type { DeviceReport, ReplicaReport, VolumeListed } from '#strake/ports/manager.js';
import type { CallAnswer, CallName, CallRequest } from '#strake/wire/manager-calls.js';

const CLIENT = '30313233343536373839616263646566';
const NODE = '505152535455565758595a5b5c5d5e5f';

export interface CallExample<Name extends CallName> {
  readonly request: CallRequest<Name>;
  readonly answer: CallAnswer<Name>;
}

/** By name of the call. `decided` is proven, `asked` is the same map and is not. */
export function callExamples(decided: ReplicaMap): { readonly [Name in CallName]: CallExample<Name> } {
  const { authentication: _, ...asked } = decided;
  const volumeId = decided.volume.id;
  const [{ deviceId }] = decided.members;
  const clusterId = 'c0c1c2c3c4c5c6c7c8c9cacbcccdcecf';
  const device: DeviceReport = {
    ...{ deviceId, incarnation: 9, segmentBytes: 1 << 20, sizeBytes: 2 ** 40, freeBytes: 2 ** 39, replicasFree: 255 },
    health: 'healthy',
  };
  const replica: ReplicaReport = {
    volumeId,
    group: 3,
    deviceId,
    mapVersion: 4294967303,
    answered: true,
    managed: true,
  };
  const labels = [{ name: 'rack', value: 'r1' }];
  const addresses = ['/run/strake/0.sock', '10.0.0.1:7071'];
  const newest = { maps: [decided], devices: [{ deviceId, nodeId: NODE, addresses }] };
  const about = { epoch: 1, sequence: 77, times: DEFAULT_TIMES };
  const volume: VolumeListed = {
    ...{ volumeId, name: 'db', sizeBytes: 2 ** 30, createdMs: 1_700_000_000_000, layout: 'mirror', copies: 2 },
    ...{
      generation: 6,
      holder: CLIENT,
      lease: 'exclusive',
      janitor: false,
      holderSilentMs: null,
      blocked: null,
      jobs: [],
      readers: [],
    },
    groups: [
      {
        ...{ group: 3, mapVersion: 4294967303, base: 4294967302 },
        members: [{ deviceId, nodeName: 'one', state: 'in-sync', answered: 0 }],
      },
    ],
  };
  return {
    status: { request: {}, answer: { clusterId, ...about, deciding: false, awaited: ['two'] } },
    setTimes: { request: { holdMs: 30_000 }, answer: { ...DEFAULT_TIMES, holdMs: 30_000 } },
    register: {
      request: {
        ...{ clusterId, nodeId: NODE, name: 'one', addresses, labels, sequenceSeen: 76 },
        ...{ devices: [device], replicas: [replica] },
      },
      answer: { ...about, refused: [{ deviceId, why: 'it is an older copy of itself' }] },
    },
    heartbeat: {
      request: { nodeId: NODE, sequenceSeen: 77, devices: [device], replicas: [] },
      answer: { registered: true, ...about, deleted: [CLIENT], attach: [CLIENT], maps: [decided] },
    },
    renew: {
      request: { clientId: CLIENT, holds: [{ volumeId, generation: 6, serves: true }] },
      answer: { sequence: 77, times: DEFAULT_TIMES, lost: [{ volumeId, generation: 7, state: 'coming' }] },
    },
    attach: { request: { volume: 'db', clientId: CLIENT, takeOver: false, above: 5 }, answer: newest },
    change: {
      request: { clientId: CLIENT, volumeId, group: 3, before: 4294967302, map: asked },
      answer: { kind: 'decided', map: decided },
    },
    stored: {
      request: { volumeId, group: 3, mapVersion: 4294967303, answers: [{ deviceId, incarnation: 9 }] },
      answer: { base: 4294967303 },
    },
    detach: { request: { clientId: CLIENT, volumeId, maps: [asked] }, answer: { kind: 'released', ...newest } },
    fetch: { request: { volume: volumeId }, answer: newest },
    create: {
      request: { volumeId, name: 'db', sizeBytes: 2 ** 30, layout: 'mirror', copies: 2, on: ['one', 'two'] },
      answer: newest,
    },
    delete: { request: { volume: volumeId }, answer: {} },
    rename: { request: { volume: volumeId, name: 'database' }, answer: newest },
    grow: { request: { volume: volumeId, sizeBytes: 2 ** 31 }, answer: newest },
    startWithout: {
      request: { volume: 'db', deviceIds: [deviceId] },
      answer: { ...newest, lost: [{ group: 3, what: 'what was written since the device has left' }] },
    },
    adopt: { request: { maps: [asked] }, answer: { maps: [decided] } },
    giveBack: { request: { volume: 'db' }, answer: { maps: [asked] } },
    nodes: {
      request: {},
      answer: { list: [{ nodeId: NODE, name: 'one', addresses, labels, state: 'up', silentMs: 499, devices: 1 }] },
    },
    devices: {
      request: {},
      answer: {
        more: false,
        list: [
          {
            ...{ deviceId, nodeId: NODE, nodeName: 'one', segmentBytes: 1 << 20, sizeBytes: 2 ** 40, freeBytes: null },
            ...{ incarnation: 9, state: 'absent', replicas: 1 },
          },
        ],
      },
    },
    volumes: { request: {}, answer: { list: [volume], more: false } },
    events: {
      request: { after: 41 },
      answer: { list: [{ number: 42, timeMs: 1_700_000_000_000, kind: 'attached', text: 'volume db', volumeId }] },
    },
  };
}
