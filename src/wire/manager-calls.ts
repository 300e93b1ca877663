/**
 * What managers are asked for and what they answer, as it travels: each call of `ManagerCalls`, with the rules that every key of
 * it has to keep. A call is one object, whose keys are the arguments; maps lie behind the JSON, as bytes.
 */

import {
  boolean,
  fields,
  id,
  list,
  oneOf,
  optional,
  orNull,
  path,
  type Rule,
  text,
  volumeName,
  whole,
} from '../core/arguments.js';
import { VOLUME_NAME_BYTES_MAX } from '../core/limits.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type {
  AttachCall,
  ClusterEvent,
  ClusterStatus,
  ClusterTimes,
  CreateRequest,
  Decided,
  DeviceListed,
  DevicePlace,
  DeviceReport,
  GroupListed,
  HeartbeatAnswer,
  HeartbeatRequest,
  Held,
  JobListed,
  JobTold,
  Lost,
  ManagerCalls,
  NodeListed,
  ReaderListed,
  RegisterAnswer,
  RegisterRequest,
  RenewAnswer,
  RenewRequest,
  ReplicaReport,
  StoredAnswer,
  StoredRequest,
  VolumeListed,
  WithoutAnswer,
} from '../ports/manager.js';
import { CALL_LISTED_MAX, LISTED_MAX, TEXT_BYTES_MAX } from './limits.js';
import { type ListPage, pageAfter } from './list-pages.js';
import {
  type Body,
  behind,
  bodyOf,
  changeAnswer,
  changeRequest,
  detachAnswer,
  detachRequest,
} from './manager-bodies.js';
import type { CALL_NAMES } from './messages.js';

export type Calls = ManagerCalls<ReplicaMap>;
export type CallName = (typeof CALL_NAMES)[number];

const count = whole(0);
const some = <T>(of: Rule<T>) => list(of, 0, CALL_LISTED_MAX);
const group = whole(0, 65_535);
const word = text(1, TEXT_BYTES_MAX);
const name = text(1, VOLUME_NAME_BYTES_MAX);
const health = oneOf('healthy', 'read-only', 'failed');
const layout = oneOf('single', 'mirror');
const label = fields<RegisterRequest['labels'][number]>({ name, value: text(0, VOLUME_NAME_BYTES_MAX) });
const labels = list(label, 0, LISTED_MAX);
const addresses = list(path, 0, LISTED_MAX);

const times = fields<ClusterTimes>({
  pingMs: count,
  leaseMs: count,
  silenceMs: count,
  deviceOperationMs: count,
  deviceFenceMs: count,
  holdMs: count,
  attachMs: count,
  ownFlushMs: count,
  janitorMs: count,
  nodeDownMs: count,
  graceMs: count,
  handOutMs: count,
  startMs: count,
});

const someTimes = fields<Partial<ClusterTimes>>({
  pingMs: optional(count),
  leaseMs: optional(count),
  silenceMs: optional(count),
  deviceOperationMs: optional(count),
  deviceFenceMs: optional(count),
  holdMs: optional(count),
  attachMs: optional(count),
  ownFlushMs: optional(count),
  janitorMs: optional(count),
  nodeDownMs: optional(count),
  graceMs: optional(count),
  handOutMs: optional(count),
  startMs: optional(count),
});

const status = fields<ClusterStatus>({
  clusterId: id,
  epoch: count,
  sequence: count,
  times,
  deciding: boolean,
  awaited: some(name),
});

const device = fields<DeviceReport>({
  deviceId: id,
  incarnation: count,
  segmentBytes: whole(4096, 1 << 20),
  sizeBytes: count,
  freeBytes: count,
  replicasFree: count,
  health,
});

const replica = fields<ReplicaReport>({
  volumeId: id,
  group,
  deviceId: id,
  mapVersion: count,
  answered: boolean,
  managed: boolean,
});

const register = fields<RegisterRequest>({
  clusterId: id,
  nodeId: id,
  name,
  addresses,
  labels,
  sequenceSeen: count,
  devices: some(device),
  replicas: some(replica),
});

const registered = fields<RegisterAnswer>({
  epoch: count,
  sequence: count,
  times,
  refused: some(fields<RegisterAnswer['refused'][number]>({ deviceId: id, why: word })),
});

const heartbeat = fields<HeartbeatRequest>({
  nodeId: id,
  sequenceSeen: count,
  devices: some(device),
  replicas: some(replica),
});

const heard = fields<Omit<HeartbeatAnswer<ReplicaMap>, 'maps'>>({
  registered: boolean,
  epoch: count,
  sequence: count,
  times,
  deleted: some(id),
  attach: some(id),
});

const node = fields<NodeListed>({
  nodeId: id,
  name,
  addresses,
  labels,
  state: oneOf('up', 'down'),
  silentMs: orNull(count),
  devices: count,
});

const deviceListed = fields<DeviceListed>({
  deviceId: id,
  nodeId: id,
  nodeName: name,
  segmentBytes: count,
  sizeBytes: count,
  freeBytes: orNull(count),
  incarnation: count,
  state: oneOf('healthy', 'read-only', 'failed', 'absent', 'refused'),
  replicas: count,
});

const attach = fields<AttachCall>({
  volume: volumeName,
  clientId: id,
  takeOver: boolean,
  above: optional(count),
  instead: optional(count),
  janitor: optional(boolean),
});

const place = fields<DevicePlace>({ deviceId: id, nodeId: id, addresses });
const decided = fields<Omit<Decided<ReplicaMap>, 'maps'>>({ devices: some(place) });

const stored = fields<StoredRequest>({
  volumeId: id,
  group,
  mapVersion: count,
  answers: list(fields<StoredRequest['answers'][number]>({ deviceId: id, incarnation: count }), 0, LISTED_MAX),
});

const jobTold = fields<JobTold>({
  volumeId: id,
  group,
  deviceId: id,
  kind: word,
  joined: count,
  bytesDone: count,
  bytesTotal: count,
});

const renew = fields<RenewRequest>({
  clientId: id,
  holds: some(fields<Held>({ volumeId: id, generation: count, serves: boolean })),
  jobs: optional(list(jobTold, 0, LISTED_MAX)),
  reads: optional(some(id)),
});

const lost = fields<Lost>({ volumeId: id, generation: count, state: oneOf('serves', 'coming', 'free') });

const create = fields<CreateRequest>({
  volumeId: id,
  name,
  sizeBytes: count,
  layout,
  copies: count,
  on: list(name, 0, LISTED_MAX),
});

const member = fields<GroupListed['members'][number]>({
  deviceId: id,
  nodeName: text(0, VOLUME_NAME_BYTES_MAX),
  state: oneOf('in-sync', 'syncing', 'offline'),
  answered: count,
});

const jobListed = fields<JobListed>({
  group,
  deviceId: id,
  kind: word,
  joined: count,
  startedMs: count,
  bytesDone: orNull(count),
  bytesTotal: orNull(count),
});

const volume = fields<VolumeListed>({
  volumeId: id,
  name,
  sizeBytes: count,
  createdMs: count,
  layout,
  copies: count,
  generation: count,
  holder: id,
  lease: oneOf('released', 'exclusive', 'shared'),
  janitor: boolean,
  holderSilentMs: orNull(count),
  jobs: some(jobListed),
  readers: some(fields<ReaderListed>({ clientId: id, silentMs: count })),
  groups: some(fields<GroupListed>({ group, mapVersion: count, base: count, members: list(member, 0, LISTED_MAX) })),
  blocked: orNull(word),
});

const without = fields<Omit<WithoutAnswer<ReplicaMap>, 'maps'>>({
  devices: some(place),
  lost: some(fields<WithoutAnswer<ReplicaMap>['lost'][number]>({ group, what: word })),
});

const event = fields<ClusterEvent>({
  number: count,
  timeMs: count,
  kind: word,
  text: word,
  volumeId: optional(id),
  group: optional(group),
  nodeId: optional(id),
  deviceId: optional(id),
});

const none = bodyOf(fields<object>({}));
const named = bodyOf(fields<{ volume: string }>({ volume: volumeName }));
const newest = behind(decided, 'proven');
/** A list, as a frame has it: in an object. */
const listOf = <T>(of: Rule<T>) => bodyOf(fields<{ readonly list: readonly T[] }>({ list: some(of) }));

/** Behind which id a page of a list begins. */
const behindId = bodyOf(fields<{ after?: string }>({ after: optional(id) }));
const pagesOf = <T>(of: Rule<T>) => bodyOf(fields<ListPage<T>>({ list: some(of), more: boolean }));

/** One call: what it has, what its answer has, and how whoever has managers' calls carries it out. */
export interface Call<Request, Answer> {
  readonly request: Body<Request>;
  readonly answer: Body<Answer>;
  /** `wanted`: whether anybody waits for the answer still. */
  readonly perform: (calls: Calls, request: Request, wanted: () => boolean) => Promise<Answer>;
}

function call<Request, Answer>(
  request: Body<Request>,
  answer: Body<Answer>,
  perform: (calls: Calls, request: Request, wanted: () => boolean) => Promise<Answer>,
): Call<Request, Answer> {
  return { request, answer, perform };
}

const renaming = bodyOf(fields<{ volume: string; name: string }>({ volume: volumeName, name }));
const growing = bodyOf(fields<{ volume: string; sizeBytes: number }>({ volume: volumeName, sizeBytes: count }));
const losing = bodyOf(
  fields<{ volume: string; deviceIds: readonly string[] }>({ volume: volumeName, deviceIds: list(id, 0, LISTED_MAX) }),
);
const given = behind(fields<object>({}), 'unproven');
/** What a manager tells of itself: maps that it has decided. */
export const DECIDED = behind(fields<object>({}), 'proven');

/** By name. */
export const CALLS = {
  status: call(none, bodyOf(status), (calls) => calls.status()),
  setTimes: call(bodyOf(someTimes), bodyOf(times), (calls, request) => calls.setTimes(request)),
  register: call(bodyOf(register), bodyOf(registered), (calls, request) => calls.register(request)),
  heartbeat: call(bodyOf(heartbeat), behind(heard, 'proven'), (calls, request) => calls.heartbeat(request)),
  renew: call(
    bodyOf(renew),
    bodyOf(fields<RenewAnswer>({ sequence: count, times, lost: some(lost) })),
    (calls, request) => calls.renew(request),
  ),
  attach: call(bodyOf(attach), newest, (calls, request) => calls.attach(request)),
  change: call(changeRequest, changeAnswer(decided), (calls, request, wanted) => calls.change(request, wanted)),
  stored: call(bodyOf(stored), bodyOf(fields<StoredAnswer>({ base: count })), (calls, request) =>
    calls.stored(request),
  ),
  detach: call(detachRequest, detachAnswer(decided), (calls, request) => calls.detach(request)),
  fetch: call(named, newest, (calls, request) => calls.fetch(request.volume)),
  create: call(bodyOf(create), newest, (calls, request) => calls.create(request)),
  delete: call(named, none, async (calls, request) => {
    await calls.delete(request.volume);
    return {};
  }),
  rename: call(renaming, newest, (calls, request) => calls.rename(request.volume, request.name)),
  grow: call(growing, newest, (calls, request) => calls.grow(request.volume, request.sizeBytes)),
  startWithout: call(losing, behind(without, 'proven'), (calls, request) =>
    calls.startWithout(request.volume, request.deviceIds),
  ),
  adopt: call(given, DECIDED, async (calls, request) => ({ maps: await calls.adopt(request.maps) })),
  giveBack: call(named, given, async (calls, request) => ({ maps: await calls.giveBack(request.volume) })),
  nodes: call(none, listOf(node), async (calls) => ({ list: await calls.nodes() })),
  devices: call(behindId, pagesOf(deviceListed), async (calls, { after }) =>
    pageAfter(await calls.devices(), ({ deviceId }) => deviceId, after),
  ),
  volumes: call(behindId, pagesOf(volume), async (calls, { after }) =>
    pageAfter(await calls.volumes(), ({ volumeId }) => volumeId, after),
  ),
  events: call(bodyOf(fields<{ after: number }>({ after: count })), listOf(event), async (calls, request) => ({
    list: await calls.events(request.after),
  })),
} satisfies Record<CallName, unknown>;

type CallTable = typeof CALLS;
export type CallRequest<Name extends CallName> = CallTable[Name] extends Call<infer Request, infer _> ? Request : never;
export type CallAnswer<Name extends CallName> = CallTable[Name] extends Call<infer _, infer Answer> ? Answer : never;

/** A call whose name has come over the wire. */
export function callOf(name: CallName): Call<unknown, unknown> {
  return CALLS[name] as unknown as Call<unknown, unknown>;
}
