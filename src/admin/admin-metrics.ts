/**
 * Metrics of a manager and its cluster, in the text format of Prometheus. Names are `strake_…` with base units; of each state
 * there is a series of its own, which is 0 or 1. What is of the cluster is asked for when somebody looks, at most once a second.
 */

import { Counter, collectDefaultMetrics, Gauge, Histogram, type LabelValues, Registry } from 'prom-client';
import type { ClusterPicture } from './admin-health.js';
import { isWhole } from './admin-health.js';

const DEVICE_STATES = ['healthy', 'read-only', 'failed', 'absent', 'refused'] as const;
const NODE_STATES = ['up', 'down'] as const;
const VOLUME_STATES = ['whole', 'degraded', 'blocked'] as const;

/** Gauges of a cluster, all set anew for each look: what is gone has no series. */
class ClusterGauges {
  private readonly registry: Registry;

  constructor(registry: Registry) {
    this.registry = registry;
  }

  private gauge(name: string, help: string, labelNames: readonly string[] = []): Gauge<string> {
    return new Gauge({ name: `strake_${name}`, help, labelNames: [...labelNames], registers: [this.registry] });
  }

  private states<State extends string>(
    gauge: Gauge<string>,
    states: readonly State[],
    labels: LabelValues<string>,
    state: State,
  ): void {
    for (const one of states) gauge.set({ ...labels, state: one }, one === state ? 1 : 0);
  }

  set({ status, nodes, devices, volumes }: ClusterPicture): void {
    this.gauge('manager_deciding', 'Whether maps are decided.').set(status.deciding ? 1 : 0);
    this.gauge('cluster_epoch', 'Epoch of the cluster: it rises when maps are forced.').set(status.epoch);
    this.gauge('metadata_sequence', 'Batches that the store of the manager has.').set(status.sequence);
    const nodeState = this.gauge('node_state', 'Whether a node is in a state.', ['node', 'state']);
    for (const { name, state } of nodes) this.states(nodeState, NODE_STATES, { node: name }, state);
    this.setDevices(devices);
    this.setVolumes(volumes);
  }

  private setDevices(devices: ClusterPicture['devices']): void {
    const labels = ['node', 'device'];
    const state = this.gauge('device_state', 'Whether a device is in a state.', [...labels, 'state']);
    const size = this.gauge('device_size_bytes', 'Size of a device.', labels);
    const free = this.gauge('device_free_bytes', 'What of a device is not used, where its node tells.', labels);
    const replicas = this.gauge('device_replicas', 'Replicas that maps give to a device.', labels);
    for (const device of devices) {
      const of = { node: device.nodeName, device: device.deviceId };
      this.states(state, DEVICE_STATES, of, device.state);
      size.set(of, device.sizeBytes);
      if (device.freeBytes !== null) free.set(of, device.freeBytes);
      replicas.set(of, device.replicas);
    }
  }

  private setVolumes(volumes: ClusterPicture['volumes']): void {
    const labels = ['volume'];
    const state = this.gauge('volume_state', 'Whether a volume is in a state.', [...labels, 'state']);
    const size = this.gauge('volume_size_bytes', 'Size of a volume.', labels);
    const generation = this.gauge('volume_generation', 'How often a volume has been attached.', labels);
    const attached = this.gauge('volume_attached', 'Whether a client has the right to write.', labels);
    const pending = this.gauge(
      'volume_pending_groups',
      'Groups whose newest map is not known to be in effect.',
      labels,
    );
    const jobs = this.gauge('volume_jobs', 'Jobs that bring members of a volume up to date.', labels);
    const left = this.gauge('volume_job_left_bytes', 'What these have not looked at yet, as far as they tell.', labels);
    for (const volume of volumes) {
      const of = { volume: volume.name };
      jobs.set(of, volume.jobs.length);
      left.set(of, sum(volume.jobs.map(({ bytesDone, bytesTotal }) => (bytesTotal ?? 0) - (bytesDone ?? 0))));
      const health = volume.blocked !== null ? 'blocked' : isWhole(volume) ? 'whole' : 'degraded';
      this.states(state, VOLUME_STATES, of, health);
      size.set(of, volume.sizeBytes);
      generation.set(of, volume.generation);
      attached.set(of, volume.lease === 'released' ? 0 : 1);
      pending.set(of, volume.groups.filter(({ mapVersion, base }) => mapVersion > base).length);
    }
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

export class AdminMetrics {
  readonly contentType: string;
  private readonly own = new Registry();
  private readonly requests: Counter<'method' | 'route' | 'status'>;
  private readonly seconds: Histogram<'route'>;

  constructor(version: string) {
    const registers = [this.own];
    collectDefaultMetrics({ register: this.own, prefix: 'strake_' });
    new Gauge({ name: 'strake_build_info', help: 'Version of Strake.', labelNames: ['version'], registers }).set(
      { version },
      1,
    );
    this.requests = new Counter({
      name: 'strake_admin_requests_total',
      help: 'Requests to the admin API that were answered.',
      labelNames: ['method', 'route', 'status'],
      registers,
    });
    this.seconds = new Histogram({
      name: 'strake_admin_request_duration_seconds',
      help: 'Time of requests to the admin API.',
      labelNames: ['route'],
      buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10],
      registers,
    });
    this.contentType = this.own.contentType;
  }

  /** A request has been answered. `route`: a pattern, as what a client asks for could be anything. */
  note(method: string, route: string, status: number, ms: number): void {
    this.requests.inc({ method, route, status: String(status) });
    this.seconds.observe({ route }, ms / 1000);
  }

  /** Everything, in words. Without a picture the manager does not answer, and there is nothing of the cluster. */
  async text(picture: ClusterPicture | null): Promise<string> {
    const cluster = new Registry();
    new Gauge({ name: 'strake_manager_up', help: 'Whether the manager answers.', registers: [cluster] }).set(
      picture === null ? 0 : 1,
    );
    if (picture !== null) new ClusterGauges(cluster).set(picture);
    return `${await cluster.metrics()}${await this.own.metrics()}`;
  }
}
