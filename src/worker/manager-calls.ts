/** What the main thread asks of a manager, by a shard that has one, or a session with one. */

import type { ReplicaMap } from '../layout/replica-map.js';
import type { ManagerCalls } from '../ports/manager.js';
import type { ShardLink } from './shard-pool.js';

type Calls = ManagerCalls<ReplicaMap>;
type Name = keyof Calls;

/** Each call by its name, so that none is forgotten. */
const NAMES: { readonly [N in Name]: true } = {
  status: true,
  setTimes: true,
  register: true,
  heartbeat: true,
  renew: true,
  attach: true,
  change: true,
  stored: true,
  detach: true,
  fetch: true,
  create: true,
  delete: true,
  rename: true,
  grow: true,
  startWithout: true,
  adopt: true,
  giveBack: true,
  nodes: true,
  devices: true,
  volumes: true,
  events: true,
};

/** `linkOf` gives the shard's life that counts at the time of a call; it may throw. */
export function managerCalls(linkOf: () => ShardLink): Calls {
  const call =
    (name: Name) =>
    async (...args: readonly unknown[]) =>
      linkOf().call('managerCall', { name, args });
  const all = Object.keys(NAMES).map((name) => [name, call(name as Name)]);
  return Object.fromEntries(all) as unknown as Calls;
}

/** Carries one of them out. `name` comes from this process. */
export function callManager(calls: Calls, name: Name, args: readonly unknown[]): Promise<unknown> {
  return (calls[name] as (...given: unknown[]) => Promise<unknown>).apply(calls, [...args]);
}
