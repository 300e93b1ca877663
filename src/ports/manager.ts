/**
 * What a manager of a cluster is asked for. `Manager` (`src/manager`) answers in its own process, `ManagerSession` over the wire;
 * whoever asks does not know which of them it has. Everything that goes in and out is plain data.
 *
 * A manager *decides* maps: it compares what is asked for with the newest map that it knows, makes the result durable, and
 * answers. A map is *effective* when every member that it calls in-sync has answered it. Nothing that was decided is undone.
 *
 * All calls reject with a `StrakeError`: `ERR_STRAKE_NO_MANAGER` where nothing was decided because no manager answers, or it may
 * not decide; the same call may succeed later. A call whose answer was lost may be repeated: what it asked for was done or was
 * not, and is not done twice.
 *
 * Ids are 32 hexadecimal digits. `GroupMap` is the map of a replica group (`ReplicaMap` of `src/layout`), with what proves it.
 */

import type { Generation, GroupIndex, MapVersion } from './ids.js';

// ---------------------------------------------------------------- the cluster

/** Times of a cluster, which hold for everybody in it. All of them are in milliseconds. */
export interface ClusterTimes {
  /** Between two pings of a session, and between two heartbeats of a node. */
  readonly pingMs: number;
  /** For how long a read lease is granted, counted by the member; the client counts 0.9 of it. */
  readonly leaseMs: number;
  /** Silence of a member with a ping on its way, after which it is reported. */
  readonly silenceMs: number;
  /** After which an operation that a device has not ended is reported, while its node answers. */
  readonly deviceOperationMs: number;
  /** After which the device counts as dead. */
  readonly deviceFenceMs: number;
  /** For how long a request is held for a last copy or for a manager, before it fails. */
  readonly holdMs: number;
  /** After which a client that has attached and does not serve counts as gone. */
  readonly attachMs: number;
  /** Between two flushes that an engine makes by itself. */
  readonly ownFlushMs: number;
  /** After which a volume that nobody attaches, and whose copies may differ or lag behind, is attached by a node, for a while. */
  readonly janitorMs: number;
  /** Silence of a node after which it counts as down. */
  readonly nodeDownMs: number;
  /** After which a lost member is rebuilt elsewhere. */
  readonly graceMs: number;
  /** After which the manager itself hands out a map that was decided for a client. */
  readonly handOutMs: number;
  /** For how long a manager that has started decides nothing, unless all nodes that it knows have registered. */
  readonly startMs: number;
}

/** A cluster, as its manager tells it. */
export interface ClusterStatus {
  readonly clusterId: string;
  /** Rises when maps are forced; from 1 on. Map versions are this × 2^32 + n. */
  readonly epoch: number;
  /** Metadata sequence: batches that the manager's store has. */
  readonly sequence: number;
  readonly times: ClusterTimes;
  /** Whether maps are decided. */
  readonly deciding: boolean;
  /** Names of the nodes that it waits for before it decides, after a start. */
  readonly awaited: readonly string[];
}

// ---------------------------------------------------------------- nodes

export type DeviceHealth = 'healthy' | 'read-only' | 'failed';

/** A device, as its node knows it. */
export interface DeviceReport {
  readonly deviceId: string;
  /** How often it has been opened. */
  readonly incarnation: number;
  /** Bytes of a chunk. */
  readonly segmentBytes: number;
  readonly sizeBytes: number;
  readonly freeBytes: number;
  /** How many replicas more it has room for. */
  readonly replicasFree: number;
  readonly health: DeviceHealth;
}

/** A replica that lies on a device. */
export interface ReplicaReport {
  readonly volumeId: string;
  readonly group: GroupIndex;
  readonly deviceId: string;
  /** The version of the map that is stored. */
  readonly mapVersion: MapVersion;
  /** Whether that map has been answered; a map that is stored and not answered counts for nothing. */
  readonly answered: boolean;
  /** Whether a manager has decided it. */
  readonly managed: boolean;
}

export interface RegisterRequest {
  readonly clusterId: string;
  readonly nodeId: string;
  /** Unique in the cluster: `volume create --on` names it. */
  readonly name: string;
  /** Where its shards listen: one for each. */
  readonly addresses: readonly string[];
  /** Failure domains, such as rack and site. */
  readonly labels: readonly { readonly name: string; readonly value: string }[];
  /** The highest metadata sequence that it has heard of; 0 if none. */
  readonly sequenceSeen: number;
  readonly devices: readonly DeviceReport[];
  /** All replicas of all its devices, managed or not. */
  readonly replicas: readonly ReplicaReport[];
}

export interface RegisterAnswer {
  readonly epoch: number;
  readonly sequence: number;
  readonly times: ClusterTimes;
  /** Devices that the manager does not believe: ids, and why. They get no maps. */
  readonly refused: readonly { readonly deviceId: string; readonly why: string }[];
}

export interface HeartbeatRequest {
  readonly nodeId: string;
  readonly sequenceSeen: number;
  /** All devices that are open. */
  readonly devices: readonly DeviceReport[];
  /** Replicas whose map, or whose answer to it, has changed since the last heartbeat that was answered, or that have come. */
  readonly replicas: readonly ReplicaReport[];
}

export interface HeartbeatAnswer<GroupMap> {
  /** Whether the manager knows this node and its replicas. If not, it registers before its next heartbeat. */
  readonly registered: boolean;
  readonly epoch: number;
  readonly sequence: number;
  readonly times: ClusterTimes;
  /** Maps that devices of the node should have, and have not answered: at most 64; the next heartbeat brings more. */
  readonly maps: readonly GroupMap[];
  /** Ids of volumes that are deleted, and of which devices of the node have something. */
  readonly deleted: readonly string[];
  /** Ids of volumes that nobody attends to, which it is to attach as a janitor: at most 16. Told until it has. */
  readonly attach: readonly string[];
}

/** A node, as the manager knows it. */
export interface NodeListed {
  readonly nodeId: string;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly labels: readonly { readonly name: string; readonly value: string }[];
  readonly state: 'up' | 'down';
  /** Since its last heartbeat; null if there has been none since the manager started. */
  readonly silentMs: number | null;
  readonly devices: number;
}

/** A device, as the manager knows it. */
export interface DeviceListed {
  readonly deviceId: string;
  readonly nodeId: string;
  readonly nodeName: string;
  readonly segmentBytes: number;
  readonly sizeBytes: number;
  /** null where its node is down. */
  readonly freeBytes: number | null;
  readonly incarnation: number;
  /** `absent`: its node does not have it, or is down; `refused`: an older copy of itself, or a clone. */
  readonly state: DeviceHealth | 'absent' | 'refused';
  /** Replicas that maps give it. */
  readonly replicas: number;
}

// ---------------------------------------------------------------- maps

/** Where a device can be reached. */
export interface DevicePlace {
  readonly deviceId: string;
  readonly nodeId: string;
  /** Those of its node. */
  readonly addresses: readonly string[];
}

/** The newest decided maps of a volume, and where the devices are that they name. */
export interface Decided<GroupMap> {
  /** One of each group, in their order. */
  readonly maps: readonly GroupMap[];
  readonly devices: readonly DevicePlace[];
}

export interface AttachCall {
  /** Name or id of the volume. */
  readonly volume: string;
  /** The client that is to have the right to write. */
  readonly clientId: string;
  /** Whether a holder that is still heard is replaced. */
  readonly takeOver: boolean;
  /**
   * The generation that the client knew when it began: if it holds a later one by now, that is answered, and none is used up. So
   * a call whose answer was lost can be repeated.
   */
  readonly above?: Generation;
  /**
   * The client has held the volume, and attaches it anew: see `AttachRequest`. Refused with `ERR_STRAKE_VOLUME_BUSY` if there is
   * a newer generation by now, or if the client of this one serves, or has had less than `attachMs`.
   */
  readonly instead?: Generation;
  /**
   * The client is a janitor: it makes copies equal, brings members up to date, and releases the volume. Whoever else attaches the
   * volume takes it over, and it takes over nobody: without a need for it the call is rejected with `ERR_STRAKE_VOLUME_BUSY`.
   */
  readonly janitor?: boolean;
}

/** What a client asks for that it does not get because a newer map has been decided: it takes that, or is superseded. */
export interface Superseded<GroupMap> {
  readonly kind: 'superseded';
  readonly newest: Decided<GroupMap>;
}

export interface ChangeRequest<GroupMap> {
  /** Whoever asks: the holder of the newest map. */
  readonly clientId: string;
  readonly volumeId: string;
  readonly group: GroupIndex;
  /** Version of the map that was changed. */
  readonly before: MapVersion;
  /**
   * The map as it is to be: one change, and how far members have come. One change is: members go offline; one is taken in as
   * syncing; one is promoted to in-sync; a device takes the place of one that is offline. The manager gives it its version, and
   * `joined` to who is taken in.
   */
  readonly map: GroupMap;
}

export type ChangeAnswer<GroupMap> = { readonly kind: 'decided'; readonly map: GroupMap } | Superseded<GroupMap>;

export interface StoredRequest {
  readonly volumeId: string;
  readonly group: GroupIndex;
  readonly mapVersion: MapVersion;
  /** Members that have answered this version, or a later one: all that are in-sync, or some of them. */
  readonly answers: readonly { readonly deviceId: string; readonly incarnation: number }[];
}

export interface StoredAnswer {
  /** The newest version of the group that is known to be effective; 0 if none is. */
  readonly base: MapVersion;
}

export interface DetachRequest<GroupMap> {
  readonly clientId: string;
  readonly volumeId: string;
  /** Of each group the newest map as the client knows it, with how far its members have come. */
  readonly maps: readonly GroupMap[];
}

export type DetachAnswer<GroupMap> = ({ readonly kind: 'released' } & Decided<GroupMap>) | Superseded<GroupMap>;

/** How far a job of a volume has come that whoever holds it does. */
export interface JobTold {
  readonly volumeId: string;
  readonly group: GroupIndex;
  /** The device that is brought up to date. */
  readonly deviceId: string;
  readonly kind: string;
  /** Of the member, as the map says. */
  readonly joined: MapVersion;
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

export interface RenewRequest {
  readonly clientId: string;
  /** Jobs that go on in volumes that the client holds; at most 256 are told. */
  readonly jobs?: readonly JobTold[];
  /** Volumes that the client holds, or has held and would attach anew; and whether it serves them. */
  readonly holds: readonly Held[];
  /** Ids of volumes that the client only reads. */
  readonly reads?: readonly string[];
}

export interface Held {
  readonly volumeId: string;
  readonly generation: Generation;
  readonly serves: boolean;
}

/** A volume that a client does not hold any more. */
export interface Lost {
  readonly volumeId: string;
  /** The newest generation; 0 if there is no such volume. */
  readonly generation: Generation;
  /**
   * - `serves`: the client of that generation has served it; or the volume is deleted
   * - `coming`: that client may be about to serve it
   * - `free`: it has given it back, or has not served it in time: whoever held it before may attach it anew
   */
  readonly state: 'serves' | 'coming' | 'free';
}

export interface RenewAnswer {
  readonly sequence: number;
  readonly times: ClusterTimes;
  /** Those that it does not hold any more, by the newest map. */
  readonly lost: readonly Lost[];
}

// ---------------------------------------------------------------- volumes

export interface CreateRequest {
  /** Chosen by whoever asks, so that the call can be repeated. */
  readonly volumeId: string;
  readonly name: string;
  /** A multiple of 4096. */
  readonly sizeBytes: number;
  readonly layout: 'single' | 'mirror';
  readonly copies: number;
  /** Names or ids of the nodes that it is to lie on, as many as copies or more; empty: any. */
  readonly on: readonly string[];
}

/** A volume, as the manager knows it. */
export interface VolumeListed {
  readonly volumeId: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly createdMs: number;
  readonly layout: 'single' | 'mirror';
  readonly copies: number;
  readonly generation: Generation;
  /** A client id, or 32 zeroes. */
  readonly holder: string;
  readonly lease: 'released' | 'exclusive' | 'shared';
  /** Whether its holder is a node that attends to it as a janitor, which whoever attaches it takes over. */
  readonly janitor: boolean;
  /** Since the holder was heard; null if it has not been since the manager started. */
  readonly holderSilentMs: number | null;
  /** Clients that only read it, as far as they have been heard within twice `leaseMs`. */
  readonly readers: readonly ReaderListed[];
  readonly groups: readonly GroupListed[];
  readonly jobs: readonly JobListed[];
  /** Why nothing is decided about it; null if nothing stands against it. */
  readonly blocked: string | null;
}

export interface ReaderListed {
  readonly clientId: string;
  readonly silentMs: number;
}

/** A job that goes on in a volume. */
export interface JobListed extends Pick<JobTold, 'group' | 'deviceId' | 'kind' | 'joined'> {
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  /** As it was told last; null where nobody has since the manager started. */
  readonly bytesDone: number | null;
  readonly bytesTotal: number | null;
}

export interface GroupListed {
  readonly group: GroupIndex;
  readonly mapVersion: MapVersion;
  /** The newest version known to be effective. */
  readonly base: MapVersion;
  readonly members: readonly {
    readonly deviceId: string;
    readonly nodeName: string;
    readonly state: 'in-sync' | 'syncing' | 'offline';
    /** The version that it has answered; 0 if that is not known. */
    readonly answered: MapVersion;
  }[];
}

/** What a start without devices decides, and what it gives up. */
export interface WithoutAnswer<GroupMap> extends Decided<GroupMap> {
  /** Of each group that was forced: what may be lost, in words. */
  readonly lost: readonly { readonly group: GroupIndex; readonly what: string }[];
}

// ---------------------------------------------------------------- events

/** Something that has happened in the cluster. */
export interface ClusterEvent {
  /** Counts up without gaps. */
  readonly number: number;
  /** Milliseconds since 1970. */
  readonly timeMs: number;
  readonly kind: string;
  readonly text: string;
  readonly volumeId?: string;
  readonly group?: GroupIndex;
  readonly nodeId?: string;
  readonly deviceId?: string;
}

// ---------------------------------------------------------------- calls

export interface ManagerCalls<GroupMap> {
  status(): Promise<ClusterStatus>;
  /** Changes times; those that are not named stay. Rejects with `ERR_STRAKE_INVALID_ARGUMENT` for what is out of range. */
  setTimes(times: Partial<ClusterTimes>): Promise<ClusterTimes>;

  /** A node says who it is, and everything that it has. Rejects with `ERR_STRAKE_EXISTS` if another node has its name. */
  register(request: RegisterRequest): Promise<RegisterAnswer>;
  /** Every `pingMs`. */
  heartbeat(request: HeartbeatRequest): Promise<HeartbeatAnswer<GroupMap>>;
  /** A client that holds volumes is there: every `pingMs`. */
  renew(request: RenewRequest): Promise<RenewAnswer>;

  /**
   * Gives the exclusive right to write: a new generation of every group, whatever is pending. Rejects with
   * `ERR_STRAKE_VOLUME_BUSY` without `takeOver` while the volume has not been released and its holder has been heard of within
   * twice `leaseMs`, and with `ERR_STRAKE_NO_VOLUME`, `ERR_STRAKE_UNPROVEN`.
   */
  attach(call: AttachCall): Promise<Decided<GroupMap>>;
  /**
   * Decides a changed map. Rejects with `ERR_STRAKE_UNAVAILABLE` if no rule allows this change now; the message says which. What
   * is not `wanted` any more when a manager can be asked is not asked for, and rejects with `ERR_STRAKE_NO_MANAGER`; the manager
   * lets go of what it has not decided by then.
   */
  change(request: ChangeRequest<GroupMap>, wanted?: () => boolean): Promise<ChangeAnswer<GroupMap>>;
  /** Members have answered a map. Before an attached client has removed anybody, one member of the group has. */
  stored(request: StoredRequest): Promise<StoredAnswer>;
  /** Gives the right to write back in order: nothing is under way any more. */
  detach(request: DetachRequest<GroupMap>): Promise<DetachAnswer<GroupMap>>;
  /** The newest maps of a volume, by name or id. */
  fetch(volume: string): Promise<Decided<GroupMap>>;

  /**
   * Decides the first map of a volume. Rejects with `ERR_STRAKE_EXISTS`, `ERR_STRAKE_NO_SPACE`, `ERR_STRAKE_INVALID_ARGUMENT`.
   */
  create(request: CreateRequest): Promise<Decided<GroupMap>>;
  /** Decides that a volume is deleted, by name or id. Rejects with `ERR_STRAKE_VOLUME_BUSY` while its holder is heard. */
  delete(volume: string): Promise<void>;
  /** Another name, in every group. Its holder gets the maps from its members, or from the answer if it is who asks. */
  rename(volume: string, name: string): Promise<Decided<GroupMap>>;
  /** A larger size, in every group. */
  grow(volume: string, sizeBytes: number): Promise<Decided<GroupMap>>;
  /**
   * Starts a volume without devices that are lost for good, where no rule mends a group: a new epoch of the cluster, in which
   * they are not in-sync, and those that were before them are. Rejects with `ERR_STRAKE_UNAVAILABLE` where nothing is left.
   */
  startWithout(volume: string, deviceIds: readonly string[]): Promise<WithoutAnswer<GroupMap>>;

  /**
   * Takes over volumes that a node has decided about by itself: all groups of each, as they are on its devices. Their first
   * managed maps are stored on all in-sync members before anybody attaches.
   */
  adopt(maps: readonly GroupMap[]): Promise<readonly GroupMap[]>;
  /**
   * Gives a volume back to the node that has all its devices: from now on nothing is decided about it here. Answers the maps that
   * are stored there, which prove nothing. The volume is forgotten when all its devices report those.
   */
  giveBack(volume: string): Promise<readonly GroupMap[]>;

  nodes(): Promise<readonly NodeListed[]>;
  devices(): Promise<readonly DeviceListed[]>;
  volumes(): Promise<readonly VolumeListed[]>;
  /** Events after that of this number, oldest first; at most 256. */
  events(after: number): Promise<readonly ClusterEvent[]>;
}
