/** Faults that let assertions fire: those of a node and of its volumes. */

import { ANY, type AssertionMutant, CALM, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

export const NODE_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'a volume has more segments than are in use',
    'node/node-store.ts',
    'group === null ? volumeTable.indexesOf(volumeId) :',
    'group === null ? [0, 0, 0].flatMap(() => volumeTable.indexesOf(volumeId)) :',
    tests('node-sim/deleted-volumes.test.ts'),
  ),
  one(
    'segments are given back of another volume',
    'node/releases.ts',
    'await releasePage(released, page',
    "await releasePage({ ...released, volumeId: '' }, page",
    tests('node-sim/deleted-volumes.test.ts'),
  ),
  one(
    'a volume is attached with a map that is not newer in every group',
    'layout/starting-map.ts',
    'return stored.versions[at] + (lost ? FORK_VERSIONS : 1);',
    'return stored.versions[at] + (lost ? FORK_VERSIONS : 0);',
    CALM,
  ),
  one(
    'a volume is attached with other groups',
    'volumes/device-catalog.ts',
    '    checkMap(map);\n    check(map.id',
    '    checkMap(map);\n    newest.groups.push([]);\n    check(map.id',
    CALM,
  ),
  one(
    'segments are given back of a volume that is not deleted',
    'volumes/device-catalog.ts',
    '    return note;\n',
    '    return map;\n',
    tests('node-sim/deleted-volumes.test.ts'),
  ),
  one(
    'a volume is listed in the place of another',
    'volumes/volume-directory.ts',
    ' || this.byId.has(id)) continue;',
    ') continue;',
    tests('node-sim/names.test.ts'),
  ),
  one(
    'a volume keeps a device that was replaced',
    'volumes/device-changes.ts',
    '          jobs.push(...begun.map(({ id }) => id));\n',
    '',
    ANY,
  ),
  one(
    'a volume is deleted that is served',
    'volumes/volume-changes.ts',
    '      await this.host.stop(volume);\n      check',
    '      check',
    tests('node-sim/deleted-volumes.test.ts'),
  ),
  one(
    'a volume that is not served asks for room',
    'volumes/volume-host.ts',
    'this.makeRoom(volume, deviceIds)',
    'this.makeRoom({ ...volume, engine: null } as HostedVolume, deviceIds)',
    tests('node-sim/space.test.ts'),
  ),
  one(
    'a device is replaced in a volume that is not served',
    'volumes/device-changes.ts',
    'await this.host.replaceIn(volume, deviceId, entry);',
    'await this.host.replaceIn({ ...volume, engine: null } as HostedVolume, deviceId, entry);',
    ANY,
  ),
  one(
    'a device is closed that a volume writes to',
    'volumes/device-changes.ts',
    'await Promise.all(users.map(({ engine }) => engine?.changesEnded()));\n    const user = users.find(({ engine }) => engine !== null && isUsed(engine, entry.deviceId));',
    'const user = users.find(({ engine }) => engine !== null);',
    tests('node-sim/jobs.test.ts'),
  ),
  one(
    'a replica has the map of another group',
    'node/replica.ts',
    'const map = this.device.replicas[this.page];',
    'const held = this.device.replicas[this.page];\n    const map = held && { ...held, group: held.group + 1 };',
  ),
  one(
    'two jobs of a node have one number',
    'volumes/job-book.ts',
    "    check(job.id > 0 && job.id <= this.lastId, 'a job has",
    "    this.entries.push({ job, about });\n    check(job.id > 0 && job.id <= this.lastId, 'a job has",
    tests('node-sim/jobs.test.ts'),
  ),
  one(
    'a volume is listed no longer that is served',
    'volumes/volume-changes.ts',
    "      await this.host.stop(volume);\n      check(volume.engine === null, 'a volume is deleted",
    "      this.volumes.remove(volume);\n      await this.host.stop(volume);\n      check(volume.engine === null, 'a volume is deleted",
    tests('node-sim/deleted-volumes.test.ts'),
  ),
  one(
    'a volume is served over replicas of its last start',
    'volumes/volume-host.ts',
    'const engine = await this.assemble(volume, map, stores);',
    'await this.assemble(volume, map, stores);\n      const engine = await this.assemble(volume, map, stores);',
  ),
  {
    says: 'a volume is to be started that is served',
    edits: [
      {
        file: 'volumes/device-changes.ts',
        find: 'if (!started) await this.starts.settleVolume(id, []);',
        replace: 'if (started) await this.starts.settleVolume(id, []);',
      },
      {
        file: 'volumes/volume-starts.ts',
        find: '(known !== undefined && known.engine !== null)) return;',
        replace: 'known === null) return;',
      },
    ],
    judges: [tests('node-sim/jobs.test.ts')],
  },
];
