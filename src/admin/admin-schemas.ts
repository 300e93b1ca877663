/**
 * What the admin API takes and answers, as JSON schemas: requests are checked by them, and the OpenAPI document tells them.
 * Answers have a schema id and a version, as on the command line; sizes are in bytes, times in milliseconds.
 */

import { Type } from 'typebox';
import { VOLUME_NAME_BYTES_MAX } from '../core/limits.js';

/** Versions of all answers: it rises when a key changes its meaning or goes. */
export const ADMIN_VERSION = 1;

const closed = { additionalProperties: false } as const;
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Id = Type.String({ pattern: '^[0-9a-f]{32}$' });
const Name = Type.String({ minLength: 1, maxLength: VOLUME_NAME_BYTES_MAX });
const OrNull = Type.Union([Count, Type.Null()]);
const Text = Type.String();
const Layout = Type.Union([Type.Literal('single'), Type.Literal('mirror')]);
const words = (...choices: string[]) => Type.Union(choices.map((choice) => Type.Literal(choice)));

const TIMES = {
  pingMs: Count,
  leaseMs: Count,
  silenceMs: Count,
  deviceOperationMs: Count,
  deviceFenceMs: Count,
  holdMs: Count,
  attachMs: Count,
  ownFlushMs: Count,
  janitorMs: Count,
  nodeDownMs: Count,
  graceMs: Count,
  handOutMs: Count,
  startMs: Count,
};
const Times = Type.Object(TIMES);

export const Member = Type.Object({
  deviceId: Id,
  nodeName: Text,
  state: words('in-sync', 'syncing', 'offline'),
  answered: Count,
});
const Group = Type.Object({ group: Count, mapVersion: Count, base: Count, members: Type.Array(Member) });
const Job = Type.Object({
  group: Count,
  deviceId: Id,
  kind: Text,
  joined: Count,
  startedMs: Count,
  bytesDone: OrNull,
  bytesTotal: OrNull,
});
const Volume = Type.Object({
  volumeId: Id,
  name: Text,
  sizeBytes: Count,
  createdMs: Count,
  layout: Layout,
  copies: Count,
  generation: Count,
  holder: Id,
  lease: words('released', 'exclusive', 'shared'),
  janitor: Type.Boolean(),
  holderSilentMs: Type.Union([Type.Number({ minimum: 0 }), Type.Null()]),
  readers: Type.Array(Type.Object({ clientId: Id, silentMs: Count })),
  groups: Type.Array(Group),
  jobs: Type.Array(Job),
  blocked: Type.Union([Text, Type.Null()]),
});
const Label = Type.Object({ name: Text, value: Text });
const Node = Type.Object({
  nodeId: Id,
  name: Text,
  addresses: Type.Array(Text),
  labels: Type.Array(Label),
  state: words('up', 'down'),
  silentMs: Type.Union([Type.Number({ minimum: 0 }), Type.Null()]),
  devices: Count,
});
const Device = Type.Object({
  deviceId: Id,
  nodeId: Id,
  nodeName: Text,
  segmentBytes: Count,
  sizeBytes: Count,
  freeBytes: OrNull,
  incarnation: Count,
  state: words('healthy', 'read-only', 'failed', 'absent', 'refused'),
  replicas: Count,
});
const Event = Type.Object({
  number: Count,
  timeMs: Count,
  kind: Text,
  text: Text,
  volumeId: Type.Optional(Id),
  group: Type.Optional(Count),
  nodeId: Type.Optional(Id),
  deviceId: Type.Optional(Id),
});
const Cluster = Type.Object({
  clusterId: Id,
  epoch: Count,
  sequence: Count,
  times: Times,
  deciding: Type.Boolean(),
  awaited: Type.Array(Text),
});

/** An answer: what it has, behind its schema id and version. */
function answer<Fields extends Parameters<typeof Type.Object>[0]>(schema: string, fields: Fields) {
  return Type.Object({ schema: Type.Literal(schema), version: Type.Literal(ADMIN_VERSION), ...fields });
}

export const ANSWERS = {
  cluster: answer('strake.admin.cluster', { cluster: Cluster }),
  times: answer('strake.admin.times', { times: Times }),
  nodes: answer('strake.admin.nodes', { nodes: Type.Array(Node) }),
  devices: answer('strake.admin.devices', { devices: Type.Array(Device) }),
  volumes: answer('strake.admin.volumes', { volumes: Type.Array(Volume) }),
  volume: answer('strake.admin.volume', { volume: Volume }),
  deleted: answer('strake.admin.deleted', { volumeId: Id, name: Text }),
  started: answer('strake.admin.started', {
    volume: Volume,
    lost: Type.Array(Type.Object({ group: Count, what: Text })),
  }),
  events: answer('strake.admin.events', { events: Type.Array(Event) }),
  probe: answer('strake.admin.probe', {
    healthy: Type.Boolean(),
    checks: Type.Array(Type.Object({ name: Text, healthy: Type.Boolean(), reason: Text })),
  }),
  error: answer('strake.error', {
    code: Text,
    message: Text,
    remedy: Text,
    retryable: Type.Boolean(),
  }),
} as const;

const Digits = Type.String({ pattern: '^[0-9]{1,15}$' });

export const REQUESTS = {
  times: Type.Partial(Type.Object(TIMES), { ...closed, minProperties: 1 }),
  volume: Type.Object({ volume: Name }, closed),
  confirm: Type.Object({ confirm: Type.Optional(Name) }, closed),
  events: Type.Object({ after: Type.Optional(Digits) }, closed),
  create: Type.Object(
    {
      name: Name,
      sizeBytes: Count,
      layout: Layout,
      copies: Type.Integer({ minimum: 1, maximum: 3 }),
      on: Type.Optional(Type.Array(Name, { maxItems: 256 })),
      volumeId: Type.Optional(Id),
    },
    closed,
  ),
  change: Type.Object(
    { name: Type.Optional(Name), sizeBytes: Type.Optional(Count) },
    { ...closed, minProperties: 1, maxProperties: 1 },
  ),
  without: Type.Object({ deviceIds: Type.Array(Id, { minItems: 1, maxItems: 256 }) }, closed),
  none: Type.Object({}, closed),
} as const;
