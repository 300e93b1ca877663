/** How nodes, devices and volumes are put into words and tables. */

import type { ControlVolume } from '../control/calls.js';
import { StrakeError } from '../core/errors.js';
import { formatBytes, parseBytes } from '../core/units.js';
import type { CreateVolumeOptions, NodeDevice, NodeEvent, NodeVolumeStatus } from '../embed/node-types.js';
import { fields, table } from './output.js';

/** Enough of an id for people. */
export const shortId = (id: string): string => id.slice(0, 8);

/** Something that has happened, as a line of a log. */
export function eventLine({ kind, text, volume, deviceId }: NodeEvent): string {
  const about = [
    volume === undefined ? '' : `volume ${volume}`,
    deviceId === undefined ? '' : `device ${shortId(deviceId)}`,
  ];
  const where = about.filter((part) => part !== '').join(', ');
  return `strake: ${kind}: ${text}${where === '' ? '' : ` (${where})`}`;
}

export function layoutText({ layout, copies }: Pick<NodeVolumeStatus, 'layout' | 'copies'>): string {
  return layout === 'single' ? 'single' : `mirror:${copies}`;
}

/** `single`, `mirror:2` or `mirror:3`. */
export function parseLayout(text: string): Required<Pick<CreateVolumeOptions, 'layout' | 'copies'>> {
  if (text === 'single') return { layout: 'single', copies: 1 };
  const copies = /^mirror:([23])$/.exec(text)?.[1];
  if (copies === undefined) {
    throw new StrakeError('INVALID_ARGUMENT', `unknown layout ${JSON.stringify(text)}`, {
      remedy: 'Use single, mirror:2 or mirror:3.',
    });
  }
  return { layout: 'mirror', copies: Number(copies) };
}

/** A size above zero. */
export function parseSize(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === 0) throw new StrakeError('INVALID_ARGUMENT', 'a size has to be above 0');
  return bytes;
}

/** What a job has done, at most 99.9% while it runs. */
export function percent({
  bytesDone,
  bytesTotal,
  state,
}: Pick<NodeVolumeStatus['jobs'][number], 'bytesDone' | 'bytesTotal' | 'state'>): string {
  if (state === 'done') return '100%';
  return `${Math.min(99.9, bytesTotal > 0 ? (100 * bytesDone) / bytesTotal : 0).toFixed(1)}%`;
}

/** The state of a volume, with what is being done about it. */
function stateText({ state, jobs }: NodeVolumeStatus): string {
  const running = jobs.filter((job) => job.state === 'running').map((job) => `${job.kind} ${percent(job)}`);
  return [state, ...running].join(', ');
}

/** As many digits of an id, and at least eight, as no other volume's id begins with. */
function shortIdAmong(id: string, volumes: readonly ControlVolume[]): string {
  let digits = shortId(id).length;
  const taken = () => volumes.some((other) => other.id !== id && other.id.startsWith(id.slice(0, digits)));
  while (taken()) digits += 1;
  return id.slice(0, digits);
}

export function volumeTable(volumes: readonly ControlVolume[]): string {
  if (volumes.length === 0) return 'no volumes; `strake volume create NAME --size S` makes one';
  const rows = volumes.map((volume) => [
    volume.name,
    shortIdAmong(volume.id, volumes),
    formatBytes(volume.sizeBytes),
    layoutText(volume),
    stateText(volume),
    formatBytes(volume.allocatedBytes),
    volume.uri,
  ]);
  return table(['volume', 'id', 'size', 'layout', 'state', 'on disk', 'uri'], rows);
}

export function deviceTable(devices: readonly NodeDevice[]): string {
  // Where there is one shard, nobody has to be told which.
  const spread = devices.some(({ shard }) => shard > 0);
  const rows = devices.map((device) => [
    shortId(device.deviceId),
    device.path,
    device.label,
    formatBytes(device.sizeBytes),
    formatBytes(device.usedSlots * device.slotBytes),
    device.state,
    String(device.counters.checksumErrors),
    ...(spread ? [String(device.shard)] : []),
  ]);
  const columns = ['device', 'path', 'label', 'size', 'used', 'state', 'checksum errors'];
  return table(spread ? [...columns, 'shard'] : columns, rows);
}

/** One volume in full. */
export function volumeText(volume: ControlVolume): string {
  const counters = Object.entries(volume.counters).filter(([, count]) => count > 0);
  const about = fields([
    ['volume', volume.name],
    ['id', volume.id],
    ['size', `${formatBytes(volume.sizeBytes)} (${volume.sizeBytes} bytes)`],
    ['on disk', `${formatBytes(volume.allocatedBytes)}, all copies together`],
    ['layout', layoutText(volume)],
    ['state', volume.reason === '' ? stateText(volume) : `${stateText(volume)}: ${volume.reason}`],
    ['created', volume.createdAt],
    ['counters', counters.map(([name, count]) => `${name} ${count}`).join(', ') || 'nothing unusual'],
    ['uri', volume.uri === '' ? 'not served' : volume.uri],
  ]);
  const members = volume.groups.flatMap((group, index) =>
    group.map(({ deviceId, path, state, present }) => [
      String(index),
      shortId(deviceId),
      path ?? 'missing',
      present ? state : `${state}, missing`,
    ]),
  );
  const jobs = volume.jobs.map((job) => [
    String(job.id),
    job.kind,
    job.state,
    percent(job),
    formatBytes(job.bytesCopied),
    job.reason,
  ]);
  const parts = [about, table(['group', 'device', 'path', 'copy'], members)];
  if (jobs.length > 0) parts.push(table(['job', 'kind', 'state', 'done', 'copied', 'reason'], jobs));
  return parts.join('\n\n');
}
