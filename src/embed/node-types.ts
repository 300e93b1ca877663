/** What a node tells of itself, and what it can be asked for. Sizes are in bytes. */

import type { JobProgress, VolumeCounters, VolumeState } from '../client/volume-events.js';
import type { MemberState } from '../layout/volume-map.js';
import type { FaultRule } from '../uring/native.js';
import type { JobReport } from '../volumes/job-book.js';
import type { RemoteDeviceStatus } from '../volumes/remote-device.js';
import type { DeviceFacts } from './facts.js';

/** Where a node serves segments. Either `socket` or `port`, with `host`. */
export interface NodeAddress {
  /** Path of a unix socket, which only its owner can use (mode 0600). */
  readonly socket?: string;
  /** Loopback address, `127.0.0.1` if absent: there is no encryption, so there is no other. */
  readonly host?: string;
  /** TCP port; where a node listens, 0 for one that the system chooses. */
  readonly port?: number;
}

/** How to open a node. */
export interface OpenNodeOptions {
  /** Paths of formatted devices, at most 256, of which 16 are driven. */
  readonly devices: readonly string[];
  /** Refuses to open unless all of them can be opened; absent, the others are in `status().unavailable`. */
  readonly strict?: boolean;
  /** Leaves devices alone that hold no Strake superblock, as a folder's files may; absent, they are unavailable. */
  readonly skipUnformatted?: boolean;
  /**
   * Milliseconds for which devices that do not answer are waited for, 15000 if absent: until they have said who they are, and
   * once more until they are open. They become a part of the node when they answer later.
   */
  readonly deviceWaitMs?: number;
  /** Refuses devices of other clusters; absent, the cluster of most of them counts, or of the one named first. */
  readonly clusterId?: string;
  /**
   * Volumes that may start although these devices, which may hold newer data, are missing: device ids by name or id of the
   * volume.
   */
  readonly without?: Readonly<Record<string, readonly string[]>>;
  /**
   * Threads over which its devices are spread, from 1 to 64. Absent, half of the processors, or what `STRAKE_SHARDS` says, and at
   * most as many as there are devices.
   */
  readonly shards?: number;
  /**
   * Bytes of memory for block tables, which all its devices share, from 16 MiB to 1 GiB: 4 KiB for each segment whose blocks are
   * found without another read. Absent, 1/16 of the memory that there is, within the same bounds. It is divided over the
   * shards; each open device can have 5 MiB of it in any case.
   */
  readonly tableMemory?: number;
  /** The file with the key of the cluster, of mode 0600: nodes know each other by it. */
  readonly keyFile?: string;
  /**
   * Nodes of this cluster that serve segments: their devices count as devices of this one as long as they can be reached. Needs
   * `keyFile`.
   */
  readonly peers?: readonly NodeAddress[];
  /** Serves the segments of its devices to other nodes, and no volumes. Needs `keyFile`. */
  readonly segments?: NodeAddress;
  /**
   * Managers of the cluster that the node is a part of, which are tried in turn: they decide about the volumes on its
   * devices, and clients reach these at `segments`. Needs `keyFile`, `nodeId`, `name` and `segments`.
   */
  readonly manager?: readonly NodeAddress[];
  /** 32 hexadecimal digits, the same at each start, of no other node. */
  readonly nodeId?: string;
  /** By which people call the node: unique in its cluster. */
  readonly name?: string;
  /** Failure domains, such as `{ rack: 'r1' }`. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Uses addresses that can be reached from other hosts; what is said there is not encrypted. */
  readonly insecureNetwork?: boolean;
  /** Told of what happens. */
  readonly onEvent?: (event: NodeEvent) => void;
  readonly signal?: AbortSignal;
  /** Faults to inject into all its devices from their opening on, for tests of what is above. */
  readonly faults?: readonly FaultRule[];
}

/** Something that happened in a node. `text` is for people. */
export interface NodeEvent {
  readonly kind: string;
  readonly text: string;
  readonly volume?: string;
  readonly deviceId?: string;
}

/** How to format a device. */
export interface FormatDeviceOptions {
  /** The path once more: formats it although it holds known data, or is a Strake device already. */
  readonly confirm?: string;
  /** 32 hexadecimal digits; a new cluster if absent. */
  readonly clusterId?: string;
  /** A name for people, at most 63 bytes. */
  readonly label?: string;
  /** A power of two from 64 KiB to 1 MiB, the default. */
  readonly slotBytes?: number;
  /** Tells what would be done, and does nothing. */
  readonly dryRun?: boolean;
}

/** What a superblock says. */
export interface DeviceDescription {
  readonly path: string;
  readonly deviceId: string;
  readonly clusterId: string;
  readonly label: string;
  readonly sizeBytes: number;
  readonly slotBytes: number;
  readonly slots: number;
  readonly incarnation: number;
  /** Closed in order. */
  readonly clean: boolean;
  readonly formattedAt: string;
}

/** A device that a node drives. */
export interface NodeDevice extends DeviceDescription {
  readonly facts: DeviceFacts;
  /** Number of the shard that drives it. */
  readonly shard: number;
  /** `failed`: it takes no more writes; `lost`: it answers nothing. */
  readonly state: 'ok' | 'failed' | 'lost';
  readonly usedSlots: number;
  /** Memory that its block tables have. */
  readonly tableBytes: number;
  readonly recovery: {
    readonly crashed: boolean;
    readonly slotsInDoubt: number;
    readonly suspectBlocks: number;
    readonly droppedBlocks: number;
    readonly problems: readonly string[];
  };
  readonly counters: {
    readonly checksumErrors: number;
    readonly tablesDamaged: number;
    readonly checkpoints: number;
    /** Operations that the device itself has been given since it was opened: reads, writes, flushes and others. */
    readonly operations: number;
  };
}

/** What a new volume is to be. */
export interface CreateVolumeOptions {
  /** Letters, digits, `.`, `_` and `-`, beginning with a letter or digit; at most 255, and not 32 hexadecimal digits. */
  readonly name: string;
  /** A multiple of 4096. Space is taken only by what is written. */
  readonly sizeBytes: number;
  readonly layout?: 'single' | 'mirror';
  /** 2 or 3 for a mirror; 2 if absent. */
  readonly copies?: number;
}

/** A volume as its node sees it. */
export interface NodeVolumeStatus {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly layout: 'single' | 'mirror';
  readonly copies: number;
  readonly createdAt: string;
  readonly mapVersion: number;
  readonly generation: number;
  /**
   * `unproven`: a device that may hold newer data is missing, so it was not started. `conflict`: another volume has its name,
   * so it was not started.
   */
  readonly state: VolumeState | 'unproven' | 'conflict';
  readonly reason: string;
  /** Bytes of slots that it takes, on all copies together. */
  readonly allocatedBytes: number;
  /** Number of the shard that serves it; null while none does. */
  readonly shard: number | null;
  readonly groups: readonly (readonly {
    readonly deviceId: string;
    readonly path: string | null;
    readonly state: MemberState;
    readonly present: boolean;
  }[])[];
  readonly counters: Readonly<VolumeCounters>;
  readonly jobs: readonly JobProgress[];
}

/** Something that a node does in the background for a volume. */
export type NodeJob = JobReport;

/** A device of another node. */
export type { RemoteDeviceStatus };

/** One aspect of a node's health. */
export interface NodeCheck {
  readonly name: string;
  readonly state: 'ok' | 'warning' | 'critical';
  readonly text: string;
  /** What to do; empty if nothing. */
  readonly remedy: string;
}

/** A device that was named, or was open, and is not open. */
export interface UnavailableDevice {
  readonly path: string;
  /** Null if it is not known. */
  readonly deviceId: string | null;
  /** Code of the error, as `ERR_STRAKE_READ_ONLY`; `ERR_STRAKE_TIMED_OUT` as long as it has not answered. */
  readonly code: string;
  readonly reason: string;
  /** What to do. */
  readonly remedy: string;
}

/** A name of a device that was named before. */
export interface DoubledName {
  readonly path: string;
  /** The name by which it is taken. */
  readonly same: string;
}

export interface NodeStatus {
  /** The worst of the checks: `ok`, `degraded` or `critical`. */
  readonly verdict: 'ok' | 'degraded' | 'critical';
  readonly clusterId: string;
  /** Bytes of memory that the block tables of its devices may have together. */
  readonly tableMemory: number;
  readonly checks: readonly NodeCheck[];
  readonly devices: readonly NodeDevice[];
  /** Devices of other nodes that are a part of this one while they can be reached. */
  readonly remote: readonly RemoteDeviceStatus[];
  /** Devices that were named, or were open, and are not open. */
  readonly unavailable: readonly UnavailableDevice[];
  /** Names of devices that were named before: each is taken once. */
  readonly doubled: readonly DoubledName[];
  readonly volumes: readonly NodeVolumeStatus[];
  /** Devices that are not here, for which notes of so many deleted volumes are kept: they could bring these back. */
  readonly awaited: readonly { readonly deviceId: string; readonly volumes: number }[];
}
