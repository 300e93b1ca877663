/** How nodes, devices and volumes of a cluster are put into words and tables. */

import { formatBytes } from '../core/units.js';
import type { DeviceListed, NodeListed, VolumeListed } from '../ports/manager.js';
import { layoutText, shortId } from './describe.js';
import { fields, table } from './output.js';

const NO_CLIENT = '0'.repeat(32);

export function nodeTable(nodes: readonly NodeListed[]): string {
  if (nodes.length === 0) return 'no nodes; `strake node start DIR --manager ADDRESS --key-file FILE` adds one';
  const rows = nodes.map(({ nodeId, name, state, silentMs, devices, addresses, labels }) => [
    name,
    shortId(nodeId),
    state,
    silentMs === null ? 'never' : `${(silentMs / 1000).toFixed(1)} s ago`,
    String(devices),
    labels.map((label) => `${label.name}=${label.value}`).join(','),
    addresses.join(' '),
  ]);
  return table(['node', 'id', 'state', 'heard', 'devices', 'labels', 'addresses'], rows);
}

export function clusterDeviceTable(devices: readonly DeviceListed[]): string {
  if (devices.length === 0) return 'no devices; nodes that start bring them';
  const rows = devices.map(({ deviceId, nodeName, sizeBytes, freeBytes, state, replicas, incarnation }) => [
    shortId(deviceId),
    nodeName,
    formatBytes(sizeBytes),
    freeBytes === null ? '–' : formatBytes(freeBytes),
    state,
    String(replicas),
    String(incarnation),
  ]);
  return table(['device', 'node', 'size', 'free', 'state', 'replicas', 'opened'], rows);
}

/** Names of the nodes that a volume lies on. */
export function nodesOf({ groups }: VolumeListed): string[] {
  return [...new Set(groups.flatMap(({ members }) => members.map(({ nodeName }) => nodeName)))].sort();
}

/** How the groups of a volume are, in a word. */
function stateOf({ blocked, groups }: VolumeListed): string {
  if (blocked !== null) return 'blocked';
  const states = new Set(groups.flatMap(({ members }) => members.map(({ state }) => state)));
  if (states.has('offline')) return 'degraded';
  return states.has('syncing') ? 'syncing' : 'ok';
}

/** Who may write, in words. */
function holderText({ holder, lease, janitor, holderSilentMs }: VolumeListed): string {
  if (holder === NO_CLIENT || lease === 'released') return 'nobody';
  const heard = holderSilentMs === null ? 'not heard' : `heard ${seconds(holderSilentMs)} ago`;
  return `${shortId(holder)} (${janitor ? 'a janitor, ' : ''}${heard})`;
}

/** Who only reads, in words. */
function readersText({ readers }: VolumeListed): string {
  if (readers.length === 0) return 'none';
  return readers.map(({ clientId, silentMs }) => `${shortId(clientId)} (heard ${seconds(silentMs)} ago)`).join(', ');
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

export function clusterVolumeTable(volumes: readonly VolumeListed[]): string {
  if (volumes.length === 0) return 'no volumes; `strake volume create NAME --size S --manager ADDRESS` makes one';
  const rows = volumes.map((volume) => [
    volume.name,
    shortId(volume.volumeId),
    formatBytes(volume.sizeBytes),
    layoutText(volume),
    stateOf(volume),
    holderText(volume),
  ]);
  return table(['volume', 'id', 'size', 'layout', 'state', 'holder'], rows);
}

/** One volume in full. */
export function clusterVolumeText(volume: VolumeListed): string {
  const about = fields([
    ['volume', volume.name],
    ['id', volume.volumeId],
    ['size', `${formatBytes(volume.sizeBytes)} (${volume.sizeBytes} bytes)`],
    ['layout', layoutText(volume)],
    ['state', volume.blocked === null ? stateOf(volume) : `blocked: ${volume.blocked}`],
    ['created', new Date(volume.createdMs).toISOString()],
    ['generation', String(volume.generation)],
    ['holder', holderText(volume)],
    ['lease', volume.lease],
    ['readers', readersText(volume)],
  ]);
  const members = volume.groups.flatMap(({ group, mapVersion, base, members: all }) =>
    all.map(({ deviceId, nodeName, state, answered }) => [
      String(group),
      versionText(mapVersion),
      mapVersion === base ? 'effective' : `pending after ${versionText(base)}`,
      shortId(deviceId),
      nodeName,
      state,
      answered === 0 ? 'not known' : versionText(answered),
    ]),
  );
  const jobs = volume.jobs.length === 0 ? '' : `\n\n${jobTable(volume)}`;
  return `${about}\n\n${table(['group', 'map', 'is', 'device', 'node', 'copy', 'has answered'], members)}${jobs}`;
}

/** What goes on in a volume. */
function jobTable({ jobs }: VolumeListed): string {
  const rows = jobs.map(({ kind, group, deviceId, startedMs, bytesDone, bytesTotal }) => [
    kind,
    String(group),
    shortId(deviceId),
    new Date(startedMs).toISOString(),
    bytesDone === null || bytesTotal === null ? '–' : `${formatBytes(bytesDone)} of ${formatBytes(bytesTotal)}`,
  ]);
  return table(['job', 'group', 'device', 'since', 'looked at'], rows);
}

/** A version as epoch and count. */
function versionText(version: number): string {
  return `${Math.floor(version / 2 ** 32)}.${version % 2 ** 32}`;
}
