/** An admin API over a manager that decides, on a socket or a port, and requests of all kinds to it. */

import { readFileSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import type { AdminCalls } from '#strake/admin/admin-calls.js';
import { type AdminServer, openAdmin } from '#strake/admin/admin-server.js';
import type { StreamAddress } from '#strake/ports/transport.js';
import { ManagerWorld } from './manager-world.js';
import { scratchFolder } from './scratch.js';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: what a server has answered may be anything
  readonly body: any;
}

export interface Asking {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string | string[]>;
  readonly body?: unknown;
  /** In place of a body as JSON. */
  readonly text?: string;
  /** Without the token. */
  readonly bare?: boolean;
}

export class AdminWorld {
  readonly world: ManagerWorld;
  readonly server: AdminServer;
  readonly token: string;
  readonly tokenFile: string;
  readonly bugs: unknown[];

  private constructor(world: ManagerWorld, server: AdminServer, tokenFile: string, bugs: unknown[]) {
    this.world = world;
    this.server = server;
    this.tokenFile = tokenFile;
    this.token = readFileSync(tokenFile, 'utf8').trim();
    this.bugs = bugs;
  }

  static async open(
    changes: Partial<AdminCalls> = {},
    listen: StreamAddress = { host: '127.0.0.1', port: 0 },
  ): Promise<AdminWorld> {
    const world = await ManagerWorld.begin([1, 1, 1]);
    const bugs: unknown[] = [];
    const tokenFile = join(scratchFolder(), 'admin.token');
    const manager = Object.fromEntries(
      [
        'status',
        'setTimes',
        'nodes',
        'devices',
        'volumes',
        'events',
        'create',
        'delete',
        'rename',
        'grow',
        'startWithout',
      ].map((name) => [
        name,
        (...given: unknown[]) => world.settle(Reflect.get(world.manager, name).apply(world.manager, given)),
      ]),
    ) as unknown as AdminCalls;
    const calls = { ...manager, ...changes };
    const server = await openAdmin({ calls, listen, tokenFile, version: '1.2.3', onBug: (error) => bugs.push(error) });
    return new AdminWorld(world, server, tokenFile, bugs);
  }

  get where(): { readonly host: string; readonly port: number } | { readonly socketPath: string } {
    const { address } = this.server;
    return 'path' in address ? { socketPath: address.path } : address;
  }

  ask({ method = 'GET', path = '/v1/cluster', headers = {}, body, text, bare = false }: Asking = {}): Promise<Answer> {
    const sent = text ?? (body === undefined ? undefined : JSON.stringify(body));
    const about = {
      ...(bare ? {} : { authorization: `Bearer ${this.token}` }),
      ...(sent === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    };
    return new Promise((resolve, reject) => {
      const request = httpRequest({ ...this.where, method, path, headers: about, agent: false }, (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('end', () => {
          const all = Buffer.concat(parts).toString();
          const isJson = String(response.headers['content-type']).startsWith('application/json');
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text: all,
            body: isJson ? JSON.parse(all) : null,
          });
        });
      });
      request.on('error', reject);
      request.end(sent);
    });
  }

  /** A connection for bytes. */
  socket(): Socket {
    const { where } = this;
    return 'socketPath' in where ? connect(where.socketPath) : connect(where.port, where.host);
  }

  close(): Promise<void> {
    return this.server.close();
  }
}
