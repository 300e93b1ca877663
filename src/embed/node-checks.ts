/** How well a node is: one check for each of its devices and volumes, with a remedy where something is to be done. */

import { DELETED_VOLUMES_MANY } from '../core/limits.js';
import { formatBytes } from '../core/units.js';
import { conflictRemedy } from '../core/volume-names.js';
import { doubledDevice } from '../layout/volume-map.js';
import type {
  DoubledName,
  NodeCheck,
  NodeDevice,
  NodeStatus,
  NodeVolumeStatus,
  UnavailableDevice,
} from './node-types.js';

/** Shares of a device's slots in use from which on it is said to be nearly full, and critically so. */
const NEARLY_FULL = 0.85;
const CRITICALLY_FULL = 0.95;

/** Looks at everything; the verdict is the worst of the checks. */
export function checkNode(
  devices: readonly NodeDevice[],
  volumes: readonly NodeVolumeStatus[],
  { unavailable, doubled, awaited }: Pick<NodeStatus, 'unavailable' | 'doubled' | 'awaited'>,
): Pick<NodeStatus, 'verdict' | 'checks'> {
  const checks = [
    ...deviceChecks(devices),
    ...unavailable.map(unavailableCheck),
    ...doubled.map(doubledCheck),
    ...nameChecks(volumes),
    ...volumeChecks(volumes, unavailable),
    ...deletionChecks(awaited),
  ];
  const worst = (state: NodeCheck['state']) => checks.some((check) => check.state === state);
  return { verdict: worst('critical') ? 'critical' : worst('warning') ? 'degraded' : 'ok', checks };
}

/** Each takes the place of a volume on every device that has it. */
function deletionChecks(awaited: NodeStatus['awaited']): NodeCheck[] {
  return awaited
    .filter(({ volumes }) => volumes >= DELETED_VOLUMES_MANY)
    .map(({ deviceId, volumes }) => ({
      name: `deleted volumes ${deviceId}`,
      state: 'warning' as const,
      text: `${volumes} deleted volumes wait for the device, and take room of volumes on the others`,
      remedy: `Bring the device back; if it is lost for good: strake device forget ${deviceId}`,
    }));
}

function deviceChecks(devices: readonly NodeDevice[]): NodeCheck[] {
  return devices.flatMap((device) => [deviceCheck(device), spaceCheck(device)]);
}

function unavailableCheck({ path, reason, remedy }: UnavailableDevice): NodeCheck {
  return { name: `device ${path}`, state: 'critical', text: `not open: ${reason}`, remedy };
}

function doubledCheck({ path, same }: DoubledName): NodeCheck {
  const remedy = path === same ? '' : `Name it once, by ${same}.`;
  return { name: `device ${path}`, state: 'ok', text: `is ${same} once more; it is taken once`, remedy };
}

function deviceCheck({ path, deviceId, state, recovery, counters }: NodeDevice): NodeCheck {
  const name = `device ${path}`;
  if (state !== 'ok') {
    const text = state === 'lost' ? 'it does not answer' : 'a flush has failed, so it takes no more writes';
    return { name, state: 'critical', text, remedy: `Replace it: strake device replace ${deviceId} NEWPATH` };
  }
  const errors = counters.checksumErrors + counters.tablesDamaged;
  if (errors > 0) {
    const text = `${errors} reads did not match their checksums`;
    return {
      name,
      state: 'warning',
      text,
      remedy: 'Scrub the volumes, and look at the kernel log; it may be failing.',
    };
  }
  const crashed = recovery.crashed ? `, recovered from a crash (${recovery.slotsInDoubt} slots compared)` : '';
  return { name, state: 'ok', text: `in order${crashed}`, remedy: '' };
}

function spaceCheck({ path, slots, usedSlots, slotBytes }: NodeDevice): NodeCheck {
  const share = usedSlots / slots;
  const text = `${formatBytes(usedSlots * slotBytes)} of ${formatBytes(slots * slotBytes)} in use`;
  const remedy = 'Discard what is not needed (fstrim), delete volumes, or move data elsewhere.';
  const state = share >= CRITICALLY_FULL ? 'critical' : share >= NEARLY_FULL ? 'warning' : 'ok';
  return { name: `space ${path}`, state, text, remedy: state === 'ok' ? '' : remedy };
}

/** One for each name that several volumes have. */
function nameChecks(volumes: readonly NodeVolumeStatus[]): NodeCheck[] {
  const names = new Set(volumes.filter(({ state }) => state === 'conflict').map(({ name }) => name));
  return [...names].map((name) => {
    const waiting = volumes.filter((volume) => volume.name === name && volume.state === 'conflict');
    const served = volumes.find((volume) => volume.name === name && volume.state !== 'conflict');
    const ids = waiting.map(({ id }) => id);
    const text =
      served === undefined
        ? `${ids.length} volumes have this name, and none of them is served: ${ids.join(', ')}`
        : `${served.id} is served under this name; not served, as they have it too: ${ids.join(', ')}`;
    return { name: `name ${name}`, state: 'critical', text, remedy: conflictRemedy(ids) };
  });
}

/** Volumes that only their names keep from service have one check together, by `nameChecks`. */
function volumeChecks(volumes: readonly NodeVolumeStatus[], unavailable: readonly UnavailableDevice[]): NodeCheck[] {
  return volumes.flatMap((volume) => [
    ...(volume.state === 'conflict' ? [] : [volumeCheck(volume, unavailable)]),
    ...dataChecks(volume),
  ]);
}

/** Why the devices are missing that a volume waits for: of those that could not be opened, each may be one of them. */
function whyMissing({ groups }: NodeVolumeStatus, unavailable: readonly UnavailableDevice[]): string {
  const missing = groups.flat().filter(({ present }) => !present);
  const ids = missing.map(({ deviceId }) => deviceId);
  const known = unavailable.filter(({ deviceId }) => deviceId !== null && ids.includes(deviceId));
  const may = known.length < ids.length ? unavailable.filter(({ deviceId }) => deviceId === null) : [];
  const texts = [...known, ...may].map(({ path, reason }) => (reason.includes(path) ? reason : `${path}: ${reason}`));
  return texts.length === 0 ? '' : `; not open: ${texts.join('; ')}`;
}

function volumeCheck(status: NodeVolumeStatus, unavailable: readonly UnavailableDevice[]): NodeCheck {
  const { name: volume, state, reason, groups, jobs } = status;
  const name = `volume ${volume}`;
  const away = groups.flat().filter((member) => member.state !== 'in-sync');
  const ids = away.map(({ deviceId }) => deviceId).join(', ');
  switch (state) {
    case 'ok':
      return { name, state: 'ok', text: 'all copies are current', remedy: '' };
    case 'syncing':
    case 'degraded': {
      const job = jobs.find((one) => one.state === 'running' && one.kind !== 'scrub');
      const progress =
        job === undefined ? '' : `; ${job.kind} ${formatBytes(job.bytesDone)} of ${formatBytes(job.bytesTotal)}`;
      const [first] = away;
      const back = first?.present ? `Bring it up to date: strake device add ${first.path}` : 'Bring the device back';
      const replace = `replace it: strake device replace ${first?.deviceId ?? 'ID'} NEWPATH`;
      const remedy = job === undefined ? `${back}; or ${replace}` : '';
      return { name, state: 'warning', text: `not current: ${ids}${progress}`, remedy };
    }
    case 'suspended':
      return { name, state: 'warning', text: reason, remedy: '' };
    case 'unproven': {
      const remedy = `Bring the device back; if it is lost: strake volume start ${volume} --without ID`;
      return { name, state: 'critical', text: `${reason}${whyMissing(status, unavailable)}`, remedy };
    }
    default: {
      const doubled = doubledDevice(groups);
      const remedy =
        doubled === null
          ? 'Look at the devices, and start the node again.'
          : `To go on with the one copy: strake volume start ${volume} --without ${doubled}`;
      return { name, state: 'critical', text: reason || state, remedy };
    }
  }
}

function dataChecks({ name: volume, counters }: NodeVolumeStatus): NodeCheck[] {
  const name = `data ${volume}`;
  const { unrecoverableBlocks, poisonedBlocks, repairedBlocks, acceptedSuspects } = counters;
  const lost = unrecoverableBlocks + poisonedBlocks;
  if (lost > 0) {
    const text = `${lost} reads or blocks have no good copy`;
    return [{ name, state: 'critical', text, remedy: 'Restore the data from a backup.' }];
  }
  const notes = [
    repairedBlocks > 0 ? `${repairedBlocks} blocks repaired` : '',
    acceptedSuspects > 0 ? `${acceptedSuspects} blocks taken as they were after a crash` : '',
  ].filter((text) => text !== '');
  return notes.length === 0 ? [] : [{ name, state: 'ok', text: notes.join(', '), remedy: '' }];
}
