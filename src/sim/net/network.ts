/**
 * The network of a world: who listens at which address, and what is cut between hosts.
 *
 * A cut holds back everything in one direction between two hosts, on connections that are there and on new ones, until it is
 * mended. Nothing is lost by it, as TCP would send it again.
 */

import type { SimMachine } from '../world/process.js';
import type { SimRandom } from '../world/random.js';
import type { SimTimeline } from '../world/timeline.js';
import { Connection, LINE_DEFAULTS, type SimLineSettings } from './connection.js';
import type { MessageGate } from './message-gate.js';
import { SimPeer } from './peer.js';

/** A host, as far as the network knows it. */
export interface NetworkHost extends SimMachine {
  /** What every segment to or from it takes longer, in microseconds. */
  readonly delayUs: number;
}

/** Where connections can be made to. */
export interface Listener {
  readonly host: SimMachine;
  /** Whether it still takes connections. */
  readonly open: boolean;
  /** A connection has been asked for; side 1 of it is the listener's. */
  take(connection: Connection): void;
}

interface Route {
  readonly connection: Connection;
  readonly from: SimMachine | null;
  readonly to: SimMachine;
}

/** Routes that have ended are forgotten once there are so many more. */
const ROUTES_SPARE = 64;

export class SimNetwork {
  /** Through which messages on connections pass that begin from now on; null if nobody looks at them. */
  gate: MessageGate | null = null;
  private readonly time: SimTimeline;
  private readonly random: SimRandom;
  private readonly settings: Required<SimLineSettings>;
  private readonly listeners = new Map<string, Listener>();
  private routes: Route[] = [];
  private readonly cuts: { readonly from: SimMachine; readonly to: SimMachine }[] = [];
  private routesMost = ROUTES_SPARE;

  constructor(time: SimTimeline, settings: SimLineSettings = {}) {
    this.time = time;
    this.random = time.random.fork('network');
    this.settings = { ...LINE_DEFAULTS, ...settings };
  }

  /** Somebody listens at an address from now on, and whoever did before does no more. */
  listen(address: string, listener: Listener): void {
    this.listeners.set(address, listener);
  }

  /** A connection from a host, which a harness plays. If nobody listens, it is told so after a while. */
  connect(from: NetworkHost, address: string): SimPeer {
    const connection = this.connectionTo(from, address);
    const peer = new SimPeer(connection);
    this.reach(connection, address);
    return peer;
  }

  /** A connection to whoever listens at an address, which `reach` asks for. */
  connectionTo(from: SimMachine, address: string): Connection {
    return this.connection(from, this.listeners.get(address)?.host);
  }

  /** A connection that has not been asked for. */
  connection(from: SimMachine | null, to: SimMachine | undefined): Connection {
    const { settings } = this;
    const delayUs = delayOf(from) + delayOf(to ?? null);
    const [least, most] = settings.latencyUs;
    const latencyUs = [least + delayUs, most + delayUs] as const;
    const connection = new Connection(this.time, this.random, delayUs === 0 ? settings : { ...settings, latencyUs });
    if (to !== undefined) this.addRoute({ connection, from, to });
    if (this.gate !== null && to !== undefined) {
      connection.ways[1].messages = this.gate.way(connection, 1, from, to);
      connection.ways[0].messages = this.gate.way(connection, 0, to, from);
    }
    return connection;
  }

  /** Asks for a connection at an address. A host without power does not answer. */
  reach(connection: Connection, address: string): void {
    const listener = this.listeners.get(address);
    if (listener === undefined) connection.refuse();
    else connection.open(() => this.arrive(connection, listener));
  }

  private arrive(connection: Connection, listener: Listener): void {
    if (!listener.host.up) return;
    if (!listener.open) {
      connection.reset(1);
      return;
    }
    connection.confirm();
    listener.take(connection);
  }

  /** Holds back what goes from one host to another, from now on. */
  cut(from: SimMachine, to: SimMachine): void {
    this.cuts.push({ from, to });
    for (const route of this.routes) {
      if (route.from === from && route.to === to) route.connection.block(1);
      if (route.from === to && route.to === from) route.connection.block(0);
    }
  }

  /** Undoes one `cut` of these hosts. */
  mend(from: SimMachine, to: SimMachine): void {
    const at = this.cuts.findIndex((cut) => cut.from === from && cut.to === to);
    if (at < 0) return;
    this.cuts.splice(at, 1);
    for (const route of this.routes) {
      if (route.from === from && route.to === to) route.connection.unblock(1);
      if (route.from === to && route.to === from) route.connection.unblock(0);
    }
  }

  /** Breaks all connections between two hosts; new ones can be made at once. */
  reset(one: SimMachine, other: SimMachine): void {
    for (const { connection, from, to } of this.routes) {
      if ((from === one && to === other) || (from === other && to === one)) connection.reset(0);
    }
  }

  /** Breaks all connections between two hosts, of which `one` learns now, and `other` when it sends something. */
  resetAt(one: SimMachine, other: SimMachine): void {
    for (const { connection, from, to } of this.routes) {
      if (from === one && to === other) connection.resetOne(0);
      if (from === other && to === one) connection.resetOne(1);
    }
  }

  /** The connections that one host has to another and that are not broken, in the order in which it has asked for them. */
  between(from: SimMachine, to: SimMachine): readonly Connection[] {
    const routes = this.routes.filter((route) => route.from === from && route.to === to);
    return routes.map(({ connection }) => connection).filter(({ broken }) => !broken);
  }

  private addRoute(route: Route): void {
    if (this.routes.length >= this.routesMost) {
      this.routes = this.routes.filter(({ connection }) => !connection.broken);
      this.routesMost = this.routes.length + ROUTES_SPARE;
    }
    this.routes.push(route);
    const { connection, from, to } = route;
    for (const cut of this.cuts) {
      if (cut.from === from && cut.to === to) connection.block(1);
      if (cut.from === to && cut.to === from) connection.block(0);
    }
  }
}

function delayOf(host: SimMachine | null): number {
  return host !== null && 'delayUs' in host && typeof host.delayUs === 'number' ? host.delayUs : 0;
}
