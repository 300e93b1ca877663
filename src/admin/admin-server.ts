/**
 * The admin API of a manager: HTTP and JSON on a unix socket that only its owner can use, or on a loopback address, with an
 * OpenAPI document, metrics and probes. Whoever has the token may do everything; probes are open, and cheap.
 *
 * Fault model: a client may be anybody of this host, or a page that a browser of this host shows. Bodies, headers, times and
 * connections are bounded, and what a request may have is said by a schema, in which no key is left out.
 */

import { createServer, type Server } from 'node:http';
import swagger from '@fastify/swagger';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { closeServer, listenAt, prepareSocket } from '../control/socket.js';
import { StrakeError } from '../core/errors.js';
import { addressText, isLocal } from '../core/stream-address.js';
import type { StreamAddress } from '../ports/transport.js';
import type { AdminCalls } from './admin-calls.js';
import { RequestError, toldError } from './admin-errors.js';
import { adminToken, Guard } from './admin-guard.js';
import {
  type ClusterPicture,
  checksOf,
  type HealthCheck,
  managerCheck,
  pictureOf,
  Shared,
  unanswered,
} from './admin-health.js';
import { AdminMetrics } from './admin-metrics.js';
import { addClusterRoutes, addVolumeRoutes } from './admin-routes.js';
import { ADMIN_VERSION, ANSWERS, REQUESTS } from './admin-schemas.js';
import {
  ADMIN_BODY_MAX,
  ADMIN_CONNECTION_REQUESTS_MAX,
  ADMIN_CONNECTIONS_MAX,
  ADMIN_HEADERS_MAX,
  ADMIN_HEADERS_MS,
  ADMIN_IDLE_MS,
  ADMIN_PARAMETER_MAX,
  ADMIN_REQUEST_MS,
} from './limits.js';

export interface AdminOptions {
  readonly calls: AdminCalls;
  /** A unix socket, or a loopback address; port 0: any that is free. */
  readonly listen: StreamAddress;
  /** Where the token is, which is made if there is none. */
  readonly tokenFile: string;
  /** Of Strake. */
  readonly version: string;
  /** Told of errors that are bugs. */
  readonly onBug: (error: unknown) => void;
}

/** A listening admin API. */
export interface AdminServer {
  readonly address: StreamAddress;
  /** Answers what is in progress, for at most 2 seconds. */
  close(): Promise<void>;
}

/** Characters of a message that says what is wrong with a request. */
const MESSAGE_CHARACTERS = 300;

/** Probes, which need no token. */
const OPEN = new Set(['/livez', '/readyz', '/healthz/cluster']);

class Admin {
  readonly app: FastifyInstance;
  address: StreamAddress;
  private readonly options: AdminOptions;
  private readonly guard: Guard;
  private readonly metrics: AdminMetrics;
  private readonly picture: Shared<ClusterPicture>;

  constructor(options: AdminOptions) {
    const { calls, listen, tokenFile, version } = options;
    this.options = options;
    this.address = listen;
    const token = adminToken(tokenFile);
    this.guard = new Guard({ token, tokenFile, hosts: () => hostsOf(this.address) });
    this.metrics = new AdminMetrics(version);
    this.picture = new Shared(() => pictureOf(calls));
    this.app = newApp((error, reply) => this.fail(error, reply));
  }

  async prepare(): Promise<Server> {
    const { app, options } = this;
    const { calls, version } = options;
    app.removeContentTypeParser('text/plain');
    app.addHook('onRequest', async (request) => this.check(request));
    app.addHook('onResponse', async (request, reply) => this.note(request, reply));
    app.setErrorHandler((error, _request, reply) => this.fail(error, reply));
    app.setNotFoundHandler((request, reply) => this.fail(unknownRoute(request), reply));
    await app.register(swagger, { openapi: { openapi: '3.1.0', info: { title: 'Strake manager', version } } });
    // Routes come after what writes them down.
    await app.register(async (routes) => {
      addClusterRoutes(routes, calls);
      addVolumeRoutes(routes, calls);
      this.addProbes(routes);
    });
    await app.ready();
    app.server.maxConnections = ADMIN_CONNECTIONS_MAX;
    return app.server;
  }

  private check(request: FastifyRequest): void {
    const { headers, routeOptions } = request;
    this.guard.checkSource(headers);
    if (routeOptions.url === undefined || !OPEN.has(routeOptions.url)) this.guard.checkToken(headers);
  }

  private note({ method, routeOptions }: FastifyRequest, { statusCode, elapsedTime }: FastifyReply): void {
    this.metrics.note(method, routeOptions.url ?? 'none', statusCode, elapsedTime);
  }

  private fail(error: unknown, reply: FastifyReply): void {
    const known = requestError(error) ?? error;
    const { status, body, isBug } = toldError(known);
    if (isBug) this.options.onBug(error);
    if (status === 401) reply.header('www-authenticate', 'Bearer');
    if (status === 503) reply.header('retry-after', '1');
    void reply.code(status).send(body);
  }

  // ---- probes

  private addProbes(routes: FastifyInstance): void {
    const schema = (summary: string) => ({
      schema: {
        summary,
        security: [],
        querystring: REQUESTS.none,
        response: { 200: ANSWERS.probe, 503: ANSWERS.probe },
      },
    });
    routes.get('/livez', schema('Whether the process is alive.'), async (_, reply) => probe(reply, []));
    routes.get('/readyz', schema('Whether the manager decides.'), async (_, reply) =>
      probe(reply, await this.checks(({ status }) => [managerCheck(status)])),
    );
    routes.get('/healthz/cluster', schema('Whether all data has all its copies.'), async (_, reply) =>
      probe(reply, await this.checks(checksOf)),
    );
    routes.get('/metrics', { schema: { summary: 'Metrics, for Prometheus.' } }, async (_, reply) => {
      void reply.type(this.metrics.contentType);
      return this.metrics.text(await this.look().catch(() => null));
    });
    routes.get('/openapi.json', { schema: { hide: true } }, async () => this.app.swagger());
  }

  private look(): Promise<ClusterPicture> {
    return this.picture.get(performance.now());
  }

  private async checks(judge: (picture: ClusterPicture) => readonly HealthCheck[]): Promise<readonly HealthCheck[]> {
    return this.look().then(judge, unanswered);
  }
}

function probe(reply: FastifyReply, checks: readonly HealthCheck[]): object {
  const healthy = checks.every((check) => check.healthy);
  void reply.code(healthy ? 200 : 503);
  return { schema: 'strake.admin.probe', version: ADMIN_VERSION, healthy, checks };
}

function newApp(fail: (error: unknown, reply: FastifyReply) => void): FastifyInstance {
  return fastify({
    frameworkErrors: (error, _request, reply) => fail(error, reply),
    bodyLimit: ADMIN_BODY_MAX,
    routerOptions: { maxParamLength: ADMIN_PARAMETER_MAX },
    // Nothing is converted, nothing is left out, and no key is given that stands for another object.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false, allErrors: false } },
    onProtoPoisoning: 'error',
    onConstructorPoisoning: 'error',
    return503OnClosing: true,
    serverFactory: (handler) => {
      const server = createServer(
        {
          headersTimeout: ADMIN_HEADERS_MS,
          requestTimeout: ADMIN_REQUEST_MS,
          maxHeaderSize: ADMIN_HEADERS_MAX,
          keepAliveTimeout: ADMIN_IDLE_MS,
        },
        handler,
      );
      server.maxRequestsPerSocket = ADMIN_CONNECTION_REQUESTS_MAX;
      return server;
    },
  });
}

/** What a server at an address may be called in Host. */
function hostsOf(address: StreamAddress): readonly string[] {
  if ('path' in address) return ['localhost'];
  const { port } = address;
  return [addressText(address), `127.0.0.1:${port}`, `[::1]:${port}`, `localhost:${port}`];
}

function unknownRoute({ method, url }: FastifyRequest): RequestError {
  const shown = JSON.stringify(url.slice(0, 200));
  return new RequestError(
    404,
    'INVALID_ARGUMENT',
    `there is no ${method} ${shown}`,
    '/openapi.json lists what there is.',
  );
}

/** An error of the server's own, for a request that is none: its body, its type, its keys. */
function requestError(error: unknown): RequestError | null {
  if (error instanceof StrakeError || !(error instanceof Error)) return null;
  const { statusCode } = error as Error & { readonly statusCode?: number };
  if (statusCode === undefined || statusCode < 400 || statusCode >= 500) return null;
  // What a client has sent may be in it, at any length.
  return new RequestError(statusCode, 'INVALID_ARGUMENT', error.message.slice(0, MESSAGE_CHARACTERS));
}

function listenOnPort(
  server: Server,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const name = error.code === 'EADDRINUSE' ? 'ADDRESS_IN_USE' : 'ADDRESS';
      reject(new StrakeError(name, `cannot listen on ${host}:${port}: ${error.message}`));
    });
    server.listen({ host, port, exclusive: true }, () => {
      const bound = server.address();
      resolve(typeof bound === 'object' && bound !== null ? bound.port : port);
    });
  });
}

/**
 * Opens the admin API. Rejects with `ERR_STRAKE_ADDRESS` for an address that others reach, as there is no encryption, with
 * `ERR_STRAKE_ADDRESS_IN_USE`, and as `readSecretFile` for the token.
 */
export async function openAdmin(options: AdminOptions): Promise<AdminServer> {
  const { listen } = options;
  if (!isLocal(listen)) {
    throw new StrakeError('ADDRESS', `the admin API does not listen on ${addressText(listen)}, which others reach`, {
      remedy: 'Give a unix socket or a loopback address, and reach it by a tunnel that encrypts, such as ssh -L.',
    });
  }
  const admin = new Admin(options);
  if ('path' in listen) await prepareSocket(listen.path);
  const server = await admin.prepare();
  if ('path' in listen) await listenAt(server, listen.path);
  else admin.address = { host: listen.host, port: await listenOnPort(server, listen) };
  return {
    address: admin.address,
    close: async () => {
      await closeServer(server);
      await admin.app.close();
    },
  };
}
