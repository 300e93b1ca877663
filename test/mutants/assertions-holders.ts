/** Faults that let assertions fire: those of who holds a volume that managers decide about, and of nodes that register there. */

import { type AssertionMutant, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const JUDGES = [
  tests('cluster/attach.test.ts'),
  tests('cluster/failed-attach.test.ts'),
  tests('cluster/no-manager.test.ts'),
];
const AUTHORITY = 'volumes/managed-authority.ts';
const DEVICE = 'volumes/remote-device.ts';
const PEERS = 'volumes/peers.ts';
const ANEW = 'volumes/attach-anew.ts';
const VOLUMES = 'volumes/managed-volumes.ts';

/** A change of one place. */
const at = (file: string) => (says: string, find: string, replace: string) => one(says, file, find, replace, ...JUDGES);
const inAuthority = at(AUTHORITY);
const ofDevice = at(DEVICE);
const ofPeer = at(PEERS);

const HEAR = 'const heard = held.hear(map);';

export const HOLDER_ASSERTIONS: readonly AssertionMutant[] = [
  inAuthority(
    'a map is in effect that was not decided',
    'held.noteEffective(group, map.mapVersion);',
    'held.noteEffective(group, map.mapVersion + 1);',
  ),
  inAuthority(
    'a volume hears of the map of another',
    HEAR,
    "const heard = held.hear({ ...map, volume: { ...map.volume, id: '' } });",
  ),
  inAuthority(
    'a map tells of other groups than the volume was attached with',
    HEAR,
    'const heard = held.hear({ ...map, groups: 0 });',
  ),

  inAuthority('a map is taken for effective that is not', '    await this.bringAll(held);\n    check(', '    check('),

  ofPeer(
    'a device of another node has no size of chunks',
    'where, state, order });',
    'where, state: { ...state, segmentBytes: 0 }, order });',
  ),
  one(
    'a map goes to another node that has no version',
    'volumes/store-decided.ts',
    'await device.putReplica(map);',
    'await device.putReplica({ ...map, mapVersion: 0 });',
    ...JUDGES,
  ),

  ofDevice(
    'a replica is opened in the place of another',
    'this.openFor(map, index, page)',
    'this.openFor({ ...map, group: map.group + 1 }, index, page)',
  ),
  one(
    'a replica of another device is opened',
    'client/members/remote-member.ts',
    'this.deviceId = opened.deviceId;',
    "this.deviceId = '';",
    ...JUDGES,
  ),
  one(
    'a replica of another device is opened to be read',
    'client/members/remote-member.ts',
    'this.deviceId = opened.deviceId;',
    "this.deviceId = role === 'reader' ? '' : opened.deviceId;",
    tests('cluster/readers.test.ts'),
  ),

  ofPeer(
    'a node is reached twice at once',
    'else this.connect();',
    'else for (let times = 0; times < 2; times += 1) this.connect();',
  ),
  ofPeer(
    'a device of a node is taken twice',
    'await device.learnAll([...hooks.maps()]);',
    'await device.learnAll([...hooks.maps()]);\n        this.devices.push(device);',
  ),
  ofPeer(
    'a node is waited for that has a session',
    '    this.session = null;\n    this.seen.clear();',
    '    this.seen.clear();',
  ),
  ofPeer('a node is waited for whose devices are in use', 'this.devices.splice(0).map(', '[...this.devices].map('),
  ofPeer('a node is tried again without waiting', '    this.waiting = true;\n', ''),
  one(
    'maps are decided on for a volume that is suspended',
    ANEW,
    '    authority.giveUp(volumeId, reason);\n    check',
    '    check',
    ...JUDGES,
  ),

  one(
    'a volume is served by whom another client has deposed',
    VOLUMES,
    '      await node.host.stop(volume);\n      check',
    '      check',
    ...JUDGES,
  ),
];
