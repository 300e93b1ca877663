/** What the admin API does: what operators ask of a manager, by methods and paths. */

import { randomBytes } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions } from 'fastify';
import type { Static } from 'typebox';
import { StrakeError } from '../core/errors.js';
import type { VolumeListed } from '../ports/manager.js';
import type { AdminCalls } from './admin-calls.js';
import { ADMIN_VERSION, ANSWERS, REQUESTS } from './admin-schemas.js';

type Requests = typeof REQUESTS;
type Answers = typeof ANSWERS;

/** A volume that is named by its name or its id. Throws `ERR_STRAKE_NO_VOLUME`. */
async function find(calls: AdminCalls, text: string): Promise<VolumeListed> {
  const volumes = await calls.volumes();
  const found = volumes.find(({ volumeId }) => volumeId === text) ?? volumes.find(({ name }) => name === text);
  if (found === undefined) throw new StrakeError('NO_VOLUME', `there is no volume ${JSON.stringify(text)}`);
  return found;
}

const failures = { '4xx': ANSWERS.error, '5xx': ANSWERS.error };

/** What OpenAPI and the checks of a route know of it. */
function about(
  summary: string,
  answer: keyof Answers,
  parts: { params?: keyof Requests; querystring?: keyof Requests; body?: keyof Requests; status?: number } = {},
): RouteShorthandOptions {
  const { params, querystring = 'none', body, status = 200 } = parts;
  return {
    schema: {
      summary,
      ...(params === undefined ? {} : { params: REQUESTS[params] }),
      querystring: REQUESTS[querystring],
      ...(body === undefined ? {} : { body: REQUESTS[body] }),
      response: { [status]: ANSWERS[answer], ...failures },
    },
  };
}

const told = <Fields extends object>(schema: string, fields: Fields) => ({
  schema: `strake.admin.${schema}`,
  version: ADMIN_VERSION,
  ...fields,
});
const bodyOf = <Name extends keyof Requests>({ body }: FastifyRequest) => body as Static<Requests[Name]>;
const volumeOf = ({ params }: FastifyRequest) => (params as Static<Requests['volume']>).volume;

/** Whoever deletes a volume names it twice, so that it is the right one. */
function checkConfirmed({ volumeId, name }: VolumeListed, { query }: FastifyRequest): void {
  const { confirm } = query as Static<Requests['confirm']>;
  if (confirm === name || confirm === volumeId) return;
  const words = confirm === undefined ? 'it was not named a second time' : `it is not ${JSON.stringify(confirm)}`;
  throw new StrakeError('INVALID_ARGUMENT', `volume ${name} was not deleted: ${words}`, {
    remedy: `Check that it is the right one, and name it a second time: ?confirm=${encodeURIComponent(name)}`,
  });
}

export function addClusterRoutes(app: FastifyInstance, calls: AdminCalls): void {
  app.get('/v1/cluster', about('How the cluster is.', 'cluster'), async () =>
    told('cluster', { cluster: await calls.status() }),
  );
  app.patch('/v1/cluster/times', about('Changes times of the cluster.', 'times', { body: 'times' }), async (request) =>
    told('times', { times: await calls.setTimes(bodyOf<'times'>(request)) }),
  );
  app.get('/v1/nodes', about('The nodes.', 'nodes'), async () => told('nodes', { nodes: await calls.nodes() }));
  app.get('/v1/devices', about('The devices of all nodes.', 'devices'), async () =>
    told('devices', { devices: await calls.devices() }),
  );
  const events = about('What has happened, after an event of a number, oldest first.', 'events', {
    querystring: 'events',
  });
  app.get('/v1/events', events, async ({ query }) => {
    const { after = '0' } = query as Static<Requests['events']>;
    return told('events', { events: await calls.events(Number(after)) });
  });
}

export function addVolumeRoutes(app: FastifyInstance, calls: AdminCalls): void {
  app.get('/v1/volumes', about('The volumes.', 'volumes'), async () =>
    told('volumes', { volumes: await calls.volumes() }),
  );
  app.get('/v1/volumes/:volume', about('A volume, by name or id.', 'volume', { params: 'volume' }), async (request) =>
    told('volume', { volume: await find(calls, volumeOf(request)) }),
  );
  const creating = about('Makes a volume.', 'volume', { body: 'create', status: 201 });
  app.post('/v1/volumes', creating, async (request, reply) => create(calls, bodyOf<'create'>(request), reply));
  const changing = about('Gives a volume another name, or a larger size.', 'volume', {
    params: 'volume',
    body: 'change',
  });
  app.patch('/v1/volumes/:volume', changing, async (request) => {
    const { volumeId } = await find(calls, volumeOf(request));
    const { name, sizeBytes } = bodyOf<'change'>(request);
    // What is done to a volume is done by its id: the name may be another one's by then.
    if (name !== undefined) await calls.rename(volumeId, name);
    if (sizeBytes !== undefined) await calls.grow(volumeId, sizeBytes);
    return told('volume', { volume: await find(calls, volumeId) });
  });
  const deleting = about('Deletes a volume, which has to be named twice.', 'deleted', {
    params: 'volume',
    querystring: 'confirm',
  });
  app.delete('/v1/volumes/:volume', deleting, async (request) => {
    const volume = await find(calls, volumeOf(request));
    checkConfirmed(volume, request);
    await calls.delete(volume.volumeId);
    return told('deleted', { volumeId: volume.volumeId, name: volume.name });
  });
  const starting = about('Starts a volume without devices that are lost for good.', 'started', {
    params: 'volume',
    body: 'without',
  });
  app.post('/v1/volumes/:volume/start-without', starting, async (request) => {
    const { volumeId } = await find(calls, volumeOf(request));
    const { lost } = await calls.startWithout(volumeId, bodyOf<'without'>(request).deviceIds);
    return told('started', { volume: await find(calls, volumeId), lost });
  });
}

async function create(calls: AdminCalls, wanted: Static<Requests['create']>, reply: FastifyReply): Promise<object> {
  const { on = [], volumeId = randomBytes(16).toString('hex'), ...rest } = wanted;
  await calls.create({ ...rest, on, volumeId });
  reply.code(201).header('location', `/v1/volumes/${volumeId}`);
  return told('volume', { volume: await find(calls, volumeId) });
}
