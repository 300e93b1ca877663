/**
 * How the cluster is, for those who look again and again: whether the manager decides, and whether all data has all its copies.
 * Anybody may ask, so an answer holds for a while, and the manager is asked by one of those who wait at a time.
 */

import { StrakeError } from '../core/errors.js';
import type { ClusterStatus, DeviceListed, NodeListed, VolumeListed } from '../ports/manager.js';
import type { AdminCalls } from './admin-calls.js';
import { PROBE_MS } from './limits.js';

/** Everything that is known of a cluster at one time. */
export interface ClusterPicture {
  readonly status: ClusterStatus;
  readonly nodes: readonly NodeListed[];
  readonly devices: readonly DeviceListed[];
  readonly volumes: readonly VolumeListed[];
}

export interface HealthCheck {
  readonly name: string;
  readonly healthy: boolean;
  /** In words; empty where all is well. */
  readonly reason: string;
}

/** Something that is asked for at most once in `PROBE_MS`, however many ask. */
export class Shared<T> {
  private readonly ask: () => Promise<T>;
  private asked: Promise<T> | null = null;
  private untilMs = 0;

  constructor(ask: () => Promise<T>) {
    this.ask = ask;
  }

  get(nowMs: number): Promise<T> {
    if (this.asked !== null && nowMs < this.untilMs) return this.asked;
    const asked = this.ask();
    this.asked = asked;
    // As long as it is not answered, it is not asked for again.
    this.untilMs = Number.POSITIVE_INFINITY;
    const hold = () => {
      this.untilMs = nowMs + PROBE_MS;
    };
    asked.then(hold, hold);
    return asked;
  }
}

export async function pictureOf(calls: AdminCalls): Promise<ClusterPicture> {
  const [status, nodes, devices, volumes] = await Promise.all([
    calls.status(),
    calls.nodes(),
    calls.devices(),
    calls.volumes(),
  ]);
  return { status, nodes, devices, volumes };
}

function check(name: string, wrong: readonly string[]): HealthCheck {
  const shown = wrong.slice(0, 8).join('; ');
  const more = wrong.length > 8 ? `; and ${wrong.length - 8} more` : '';
  return { name, healthy: wrong.length === 0, reason: `${shown}${more}` };
}

/** Whether the manager decides. */
export function managerCheck({ deciding, awaited }: ClusterStatus): HealthCheck {
  return check('manager', deciding ? [] : [`nothing is decided yet: waits for ${awaited.join(', ') || 'its start'}`]);
}

/** Whether a group has all its copies, and its newest map is in effect. */
export function isWhole({ copies, groups }: VolumeListed): boolean {
  return groups.every(({ members }) => members.filter(({ state }) => state === 'in-sync').length >= copies);
}

export function checksOf({ status, nodes, devices, volumes }: ClusterPicture): readonly HealthCheck[] {
  const down = nodes.filter(({ state }) => state === 'down').map(({ name }) => `node ${name} is down`);
  const failed = devices
    .filter(({ state }) => state !== 'healthy')
    .map(({ deviceId, nodeName, state }) => `device ${deviceId} of ${nodeName} is ${state}`);
  const lacking = volumes.filter((volume) => !isWhole(volume)).map(({ name }) => `volume ${name} lacks copies`);
  const blocked = volumes.flatMap(({ name, blocked: why }) => (why === null ? [] : [`volume ${name}: ${why}`]));
  return [
    managerCheck(status),
    check('nodes', down),
    check('devices', failed),
    check('copies', lacking),
    check('volumes', blocked),
  ];
}

/** The check that stands for a manager that does not answer. */
export function unanswered(error: unknown): readonly HealthCheck[] {
  const reason = error instanceof StrakeError ? error.message : 'the manager fails';
  return [{ name: 'manager', healthy: false, reason }];
}
