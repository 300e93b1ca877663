/** What a shard asks another about the devices there, beside the data: control calls, each answered once, in order. */

import type { ReplicaMap, ReplicaOwn } from '../layout/replica-map.js';
import type { DeviceEvent } from '../node/device-events.js';
import type { DeviceGeometry } from '../ports/device.js';
import type { DeviceFacts } from './device-facts.js';

/** What a device is known by there; not given again in the life of the shard. */
export type DeviceNumber = number;

/** What belongs to a map on one device. */
export type OwnOfMap = Partial<Pick<ReplicaOwn, 'servedGeneration' | 'answered'>>;

/** Calls by name: what is asked, and what comes back. */
export interface DeviceCalls {
  /** Opens a formatted device that the process has open under `handle`. It has to be the one that it was found to be. */
  open: {
    request: {
      readonly handle: number;
      readonly geometry: DeviceGeometry;
      readonly path: string;
      readonly deviceId: string;
      readonly clusterId: string | undefined;
      readonly leaseMs: number;
    };
    response: { readonly device: DeviceNumber; readonly facts: DeviceFacts };
  };
  /** `forgettable`: ids of deleted volumes whose notes no device needs any more. */
  put: {
    request: {
      readonly device: DeviceNumber;
      readonly map: ReplicaMap;
      readonly own: OwnOfMap;
      readonly forgettable: readonly string[];
    };
    response: { readonly result: number; readonly facts: DeviceFacts };
  };
  /** Puts on record that leases of this length are granted. Answers 0 or a negative errno. */
  lease: { request: { readonly device: DeviceNumber; readonly leaseMs: number }; response: number };
  /** After which time operations that a device has not ended are given up. */
  fence: { request: { readonly afterMs: number }; response: null };
  release: {
    request: { readonly device: DeviceNumber; readonly volumeId: string };
    response: { readonly facts: DeviceFacts };
  };
  /** What a device says now, or each that is open. */
  facts: {
    request: { readonly device: DeviceNumber } | null;
    response: readonly (readonly [DeviceNumber, DeviceFacts])[];
  };
  end: { request: { readonly device: DeviceNumber }; response: null };
  /** What may take long comes to an end: the node is about to be closed. */
  endWork: { request: null; response: null };
}

export type DeviceCallName = keyof DeviceCalls;

/** Where the calls go. */
export interface DeviceCaller {
  /** Rejects with the `StrakeError` of the other side, or with `ERR_STRAKE_WORKER_DIED` if that has died. */
  call<Name extends DeviceCallName>(
    name: Name,
    request: DeviceCalls[Name]['request'],
  ): Promise<DeviceCalls[Name]['response']>;
}

/** What comes without having been asked for. */
export interface DeviceNews {
  readonly event: DeviceEvent;
}
