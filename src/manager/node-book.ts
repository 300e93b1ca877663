/**
 * The nodes of a cluster and their devices: who has registered with what, who has been heard when, and which devices are
 * believed.
 *
 * What changes all the time, such as room and health, is known only while a node is heard. What decides whether a device is an
 * older copy of itself, which is how often it was opened, is durable.
 */

import { StrakeError } from '../core/errors.js';
import type { DeviceListed, DevicePlace, DeviceReport, NodeListed, RegisterRequest } from '../ports/manager.js';
import type { EventLog } from './events.js';
import type { Journal } from './journal.js';
import { NODE_DEVICES_MAX, NODES_MAX } from './limits.js';
import { type DeviceRecord, deviceKey, type NodeRecord, nodeKey, type Records } from './records.js';

export interface KnownNode {
  record: NodeRecord;
  /** null: not since the manager has started. */
  heardMs: number | null;
  up: boolean;
}

export interface KnownDevice {
  record: DeviceRecord;
  /** The last that its node has said of it; null while its node is down, or does not have it. */
  report: DeviceReport | null;
  /** Why it is not believed; null if it is. */
  refused: string | null;
  /** Replicas that it was given since that report. */
  given: number;
}

export class NodeBook {
  readonly nodes = new Map<string, KnownNode>();
  readonly devices = new Map<string, KnownDevice>();
  private readonly journal: Journal;
  private readonly events: EventLog;

  constructor(journal: Journal, events: EventLog, records: Pick<Records, 'nodes' | 'devices'>) {
    this.journal = journal;
    this.events = events;
    for (const record of records.nodes) this.nodes.set(record.nodeId, { record, heardMs: null, up: false });
    for (const record of records.devices) {
      this.devices.set(record.deviceId, { record, report: null, refused: null, given: 0 });
    }
  }

  // ---------------------------------------------------------------- who is heard

  /** A node says who it is. Throws `ERR_STRAKE_EXISTS` if another has its name. Returns the ids of devices that are refused. */
  register(request: RegisterRequest, nowMs: number): readonly { readonly deviceId: string; readonly why: string }[] {
    const { nodeId, name, addresses, labels, devices } = request;
    if (devices.length > NODE_DEVICES_MAX)
      throw tooMany(`node ${name} has ${devices.length} devices`, NODE_DEVICES_MAX);
    for (const { record } of this.nodes.values()) {
      if (record.name !== name || record.nodeId === nodeId) continue;
      throw new StrakeError('EXISTS', `there is a node ${name} already: ${record.nodeId}`, {
        remedy: 'Give this one another name: strake node start DIR --name NAME.',
      });
    }
    const record: NodeRecord = { nodeId, name, addresses, labels };
    const known = this.nodes.get(nodeId);
    if (known === undefined && this.nodes.size >= NODES_MAX) throw tooMany(`node ${name} comes`, NODES_MAX);
    const node: KnownNode = known ?? { record, heardMs: null, up: false };
    if (known === undefined || JSON.stringify(known.record) !== JSON.stringify(record)) {
      this.journal.put(nodeKey(nodeId), record);
      if (known === undefined) this.events.add('node-added', `node ${name} has come`, { nodeId });
    }
    node.record = record;
    this.nodes.set(nodeId, node);
    this.heard(node, nowMs);
    return this.report(node, devices);
  }

  private heard(node: KnownNode, nowMs: number): void {
    node.heardMs = nowMs;
    if (node.up) return;
    node.up = true;
    const { nodeId, name } = node.record;
    this.events.add('node-up', `node ${name} is there`, { nodeId });
  }

  /** A node is there, with these devices. Undefined if it has not registered since the manager has started. */
  heartbeat(nodeId: string, devices: readonly DeviceReport[], nowMs: number): KnownNode | undefined {
    const node = this.nodes.get(nodeId);
    if (node === undefined || node.heardMs === null) return undefined;
    this.heard(node, nowMs);
    this.report(node, devices);
    return node;
  }

  /** Notes nodes that have been silent for too long. */
  look(nowMs: number, nodeDownMs: number): void {
    for (const node of this.nodes.values()) {
      if (!node.up || node.heardMs === null || nowMs - node.heardMs < nodeDownMs) continue;
      node.up = false;
      const { nodeId, name } = node.record;
      this.events.add('node-down', `node ${name} has not been heard for ${nodeDownMs} ms`, { nodeId });
      for (const device of this.devicesOf(nodeId)) device.report = null;
    }
  }

  /** Names of nodes that have not been heard since the manager has started. */
  awaited(): readonly string[] {
    return [...this.nodes.values()].filter(({ heardMs }) => heardMs === null).map(({ record }) => record.name);
  }

  /** How many nodes have been heard within so many milliseconds. */
  heardWithin(nowMs: number, withinMs: number): number {
    return [...this.nodes.values()].filter(({ heardMs }) => heardMs !== null && nowMs - heardMs < withinMs).length;
  }

  /** Whether a node has been silent for so many milliseconds. */
  isSilent(nodeId: string, nowMs: number, forMs: number): boolean {
    const heardMs = this.nodes.get(nodeId)?.heardMs ?? null;
    return heardMs === null || nowMs - heardMs >= forMs;
  }

  // ---------------------------------------------------------------- devices

  private devicesOf(nodeId: string): KnownDevice[] {
    return [...this.devices.values()].filter(({ record }) => record.nodeId === nodeId);
  }

  /** What a node says of its devices; those that it does not name are absent. */
  private report(node: KnownNode, reports: readonly DeviceReport[]): { deviceId: string; why: string }[] {
    const named = new Set(reports.map(({ deviceId }) => deviceId));
    for (const device of this.devicesOf(node.record.nodeId))
      if (!named.has(device.record.deviceId)) device.report = null;
    const refused: { deviceId: string; why: string }[] = [];
    for (const report of reports) {
      const why = this.reportOne(node, report);
      if (why !== null) refused.push({ deviceId: report.deviceId, why });
    }
    return refused;
  }

  /** Why a device is not believed; null if it is. */
  private reportOne(node: KnownNode, report: DeviceReport): string | null {
    const { deviceId, incarnation, segmentBytes, sizeBytes } = report;
    const { nodeId, name } = node.record;
    const known = this.devices.get(deviceId);
    const why = known === undefined ? null : this.disbelief(known, nodeId, incarnation);
    if (known !== undefined && why !== null) {
      // Where the device is that is believed, nothing changes.
      if (known.record.nodeId === nodeId) known.report = null;
      if (known.refused !== why) this.events.add('device-refused', `device ${deviceId}: ${why}`, { nodeId, deviceId });
      known.refused = why;
      return why;
    }
    const record: DeviceRecord = { deviceId, nodeId, segmentBytes, sizeBytes, incarnation };
    if (known === undefined) {
      this.journal.put(deviceKey(deviceId), record);
      this.devices.set(deviceId, { record, report, refused: null, given: 0 });
      this.events.add('device-added', `device ${deviceId} has come with node ${name}`, { nodeId, deviceId });
      return null;
    }
    if (JSON.stringify(known.record) !== JSON.stringify(record)) {
      this.journal.put(deviceKey(deviceId), record);
      if (known.record.nodeId !== nodeId) {
        this.events.add('device-moved', `device ${deviceId} has come to node ${name}`, { nodeId, deviceId });
      }
    }
    if (known.report?.replicasFree !== report.replicasFree) known.given = 0;
    known.record = record;
    known.report = report;
    known.refused = null;
    return null;
  }

  private disbelief({ record, report }: KnownDevice, nodeId: string, incarnation: number): string | null {
    if (incarnation < record.incarnation) {
      return `it has been opened ${incarnation} times, and ${record.incarnation} times before: it is an older copy`;
    }
    if (record.nodeId === nodeId || report === null) return null;
    const other = this.nodes.get(record.nodeId);
    return other?.up ? `node ${other.record.name} has it too: one of them is a copy` : null;
  }

  /** Whether a device is there and believed. */
  isPresent(deviceId: string): boolean {
    const device = this.devices.get(deviceId);
    return device !== undefined && device.report !== null && device.refused === null;
  }

  /** The highest incarnation of a device; 0 if it has never been heard of. */
  incarnationOf(deviceId: string): number {
    return this.devices.get(deviceId)?.record.incarnation ?? 0;
  }

  nodeOf(deviceId: string): string | undefined {
    return this.devices.get(deviceId)?.record.nodeId;
  }

  nameOf(nodeId: string | undefined): string {
    return (nodeId === undefined ? undefined : this.nodes.get(nodeId)?.record.name) ?? '?';
  }

  /** Where devices can be reached; those that nobody has ever had are not in it. */
  placesOf(deviceIds: Iterable<string>): readonly DevicePlace[] {
    const places: DevicePlace[] = [];
    for (const deviceId of new Set(deviceIds)) {
      const nodeId = this.nodeOf(deviceId);
      const node = nodeId === undefined ? undefined : this.nodes.get(nodeId);
      if (node !== undefined) places.push({ deviceId, nodeId: node.record.nodeId, addresses: node.record.addresses });
    }
    return places;
  }

  /** The node that a text means: its name or id. Throws `ERR_STRAKE_NOT_FOUND`. */
  find(text: string): KnownNode {
    const named = [...this.nodes.values()].find(({ record }) => record.name === text || record.nodeId === text);
    if (named !== undefined) return named;
    throw new StrakeError('NOT_FOUND', `there is no node ${JSON.stringify(text)} in this cluster`, {
      remedy: '`strake node list` shows those that there are.',
    });
  }

  // ---------------------------------------------------------------- lists

  listNodes(nowMs: number): readonly NodeListed[] {
    const counts = new Map<string, number>();
    for (const { record } of this.devices.values()) counts.set(record.nodeId, (counts.get(record.nodeId) ?? 0) + 1);
    return [...this.nodes.values()].map(({ record, heardMs, up }) => ({
      ...record,
      state: up ? 'up' : 'down',
      // Clocks tell parts of milliseconds.
      silentMs: heardMs === null ? null : Math.floor(nowMs - heardMs),
      devices: counts.get(record.nodeId) ?? 0,
    }));
  }

  /** @param replicasOn how many replicas maps give a device */
  listDevices(replicasOn: (deviceId: string) => number): readonly DeviceListed[] {
    return [...this.devices.values()].map(({ record, report, refused }) => {
      const { deviceId, nodeId, segmentBytes, sizeBytes, incarnation } = record;
      const health = report === null ? 'absent' : report.health;
      return {
        ...{ deviceId, nodeId, segmentBytes, sizeBytes, incarnation },
        nodeName: this.nameOf(nodeId),
        freeBytes: report?.freeBytes ?? null,
        state: refused === null ? health : 'refused',
        replicas: replicasOn(deviceId),
      };
    });
  }
}

function tooMany(what: string, most: number): StrakeError {
  return new StrakeError('BUSY', `${what}, and ${most} are as many as there may be`);
}
