/** The handshake: who has the key is let in, and nobody else is, whatever they have seen or change. */

import * as assert from 'uvu/assert';
import { SecretKey } from '#strake/keys/cluster-key.js';
import type { ClusterKey } from '#strake/ports/cluster-key.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { encodeControl } from '#strake/wire/control.js';
import { HelloAnswerer, HelloAsker } from '#strake/wire/hello.js';
import { STATUS_BAD_FRAME, STATUS_BAD_VERSION, STATUS_DENIED, STATUS_WRONG_CLUSTER } from '#strake/wire/messages.js';
import { WireRefusal } from '#strake/wire/refusal.js';
import { commonVersion } from '#strake/wire/versions.js';
import { check, run } from '../support/check.js';

const CLUSTER = 'c'.repeat(32);
const NODE = { nodeId: 'd'.repeat(32), clusterId: CLUSTER, features: ['fast', 'late'] };
const CLIENT = {
  clientId: 'e'.repeat(32),
  clusterId: CLUSTER,
  session: 7,
  principal: 'operator',
  features: ['late', 'odd'],
};
const TERMS = { creditRequests: 64, creditBytes: 1 << 20, shards: ['unix:/a', 'unix:/b'] };

const real = (byte: number): ClusterKey => new SecretKey(new Uint8Array(32).fill(byte));
const KEYS: readonly (readonly [string, (byte: number) => ClusterKey])[] = [
  ['HMAC-SHA256', real],
  ['simulated', (byte) => new SimKey(byte, new SimRandom(byte))],
];

function status(act: () => unknown): number {
  try {
    act();
  } catch (error) {
    assert.instance(error, WireRefusal);
    return (error as WireRefusal).status;
  }
  throw new Error('it is taken');
}

for (const [name, keyOf] of KEYS) {
  check(`both ends learn who the other one is, and what is agreed on (${name})`, () => {
    const [node, client] = [new HelloAnswerer(keyOf(1), NODE), new HelloAsker(keyOf(1), CLIENT)];
    const { challenge, hello } = client.takeChallenge(node.challenge());
    assert.equal([challenge.nodeId, challenge.clusterId], [NODE.nodeId, CLUSTER]);
    const { clientId, session, principal } = CLIENT;
    assert.equal(node.takeHello(hello), { version: 1, features: ['late'], clientId, session, principal });
    const agreement = { version: 1, features: ['late'], offered: NODE.features, nodeId: NODE.nodeId };
    assert.equal(client.takeWelcome(node.welcome(TERMS)), { ...TERMS, ...agreement });
  });

  check(`another key is refused by either end (${name})`, () => {
    const [node, stranger] = [new HelloAnswerer(keyOf(1), NODE), new HelloAsker(keyOf(2), CLIENT)];
    const { hello } = stranger.takeChallenge(node.challenge());
    assert.is(
      status(() => node.takeHello(hello)),
      STATUS_DENIED,
    );
    // A node that takes whatever it is told, and has another key.
    const client = new HelloAsker(keyOf(1), CLIENT);
    const liar = new HelloAnswerer({ ...bound(keyOf(2)), verify: () => true }, NODE);
    liar.takeHello(client.takeChallenge(liar.challenge()).hello);
    assert.is(
      status(() => client.takeWelcome(liar.welcome(TERMS))),
      STATUS_DENIED,
    );
  });

  check(`what was seen on another connection, or comes back to whoever said it, is refused (${name})`, () => {
    const key = keyOf(1);
    const [node, client] = [new HelloAnswerer(key, NODE), new HelloAsker(key, CLIENT)];
    const { hello } = client.takeChallenge(node.challenge());
    node.takeHello(hello);
    const welcome = node.welcome(TERMS);
    node.challenge();
    assert.is(
      status(() => node.takeHello(hello)),
      STATUS_DENIED,
      'the hello of another connection',
    );
    assert.is(
      status(() => client.takeWelcome(Buffer.concat([hello.subarray(32, 64), hello.subarray(64)]))),
      STATUS_DENIED,
    );
    const again = new HelloAsker(key, CLIENT);
    again.takeChallenge(new HelloAnswerer(key, NODE).challenge());
    assert.is(
      status(() => again.takeWelcome(welcome)),
      STATUS_DENIED,
      'the welcome of another connection',
    );
  });

  check(`each bit that somebody between flips is noticed before it is used (${name})`, () => {
    const key = keyOf(1);
    const flipped = (bytes: Uint8Array, at: number) => {
      const changed = bytes.slice();
      changed[at] ^= 1 << (at % 7);
      return changed;
    };
    const lengths = [new HelloAnswerer(key, NODE).challenge().length, 0, 0];
    for (let step = 0; step < 3; step += 1) {
      for (let at = 0; step === 0 ? at < lengths[0] : at < Math.max(1, lengths[step]); at += 1) {
        const [node, client] = [new HelloAnswerer(key, NODE), new HelloAsker(key, CLIENT)];
        const act = () => {
          const said = node.challenge();
          const { hello } = client.takeChallenge(step === 0 ? flipped(said, at) : said);
          lengths[1] = hello.length;
          node.takeHello(step === 1 ? flipped(hello, at) : hello);
          const welcome = node.welcome(TERMS);
          lengths[2] = welcome.length;
          client.takeWelcome(step === 2 ? flipped(welcome, at) : welcome);
        };
        const found = status(act);
        if (step > 0) assert.is(found, STATUS_DENIED, `step ${step}, byte ${at}`);
      }
    }
  });
}

/** A key whose parts can be replaced. */
function bound(key: ClusterKey): ClusterKey {
  return {
    authenticate: (message) => key.authenticate(message),
    verify: (message, mac) => key.verify(message, mac),
    nonce: () => key.nonce(),
  };
}

check('a node of another cluster, or of other versions, is refused before anything is proven to it', () => {
  const key = real(1);
  const other = new HelloAnswerer(key, { ...NODE, clusterId: 'a'.repeat(32) });
  assert.is(
    status(() => new HelloAsker(key, CLIENT).takeChallenge(other.challenge())),
    STATUS_WRONG_CLUSTER,
  );
  const about = { versionLeast: 2, versionMost: 9, features: [], nodeId: NODE.nodeId, clusterId: CLUSTER };
  const later = Buffer.concat([key.nonce(), encodeControl('challenge', about)]);
  assert.is(
    status(() => new HelloAsker(key, CLIENT).takeChallenge(later)),
    STATUS_BAD_VERSION,
  );
});

check('a version or a feature that nobody has offered is refused, though the proof is right', () => {
  for (const change of [{ version: 2 }, { features: ['other'] }]) {
    const key = real(1);
    // A client that agrees to what it likes: its key authenticates a hello with another content.
    const node = new HelloAnswerer(key, NODE);
    const said = node.challenge();
    const { clientId, session, principal } = CLIENT;
    const text = encodeControl('hello', { version: 1, features: [], clientId, session, principal, ...change });
    const nonce = key.nonce();
    const parts = [said, nonce, text].map((part) => Buffer.concat([uint32(part.length), part]));
    const proof = key.authenticate(Buffer.concat([Buffer.from('strake hello 1\0'), ...parts]));
    assert.is(
      status(() => node.takeHello(Buffer.concat([nonce, proof, text]))),
      STATUS_BAD_VERSION,
    );
  }
});

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

check('payloads of the handshake that are too short or too early are refused', () => {
  const key = real(1);
  for (const length of [0, 31, 32]) {
    assert.is(
      status(() => new HelloAsker(key, CLIENT).takeChallenge(new Uint8Array(length))),
      STATUS_BAD_FRAME,
    );
  }
  const node = new HelloAnswerer(key, NODE);
  node.challenge();
  for (const length of [0, 63, 64])
    assert.is(
      status(() => node.takeHello(new Uint8Array(length))),
      STATUS_BAD_FRAME,
    );
  assert.is(
    status(() => new HelloAsker(key, CLIENT).takeWelcome(new Uint8Array(100))),
    STATUS_BAD_FRAME,
  );
  assert.throws(() => node.welcome(TERMS), /before the hello/);
  node.takeHello(new HelloAsker(key, CLIENT).takeChallenge(node.challenge()).hello);
  node.challenge();
  assert.throws(() => node.welcome(TERMS), /before the hello/, 'the hello of the connection before');
});

check('the highest version that both speak is chosen', () => {
  assert.equal(
    [commonVersion(1, 1), commonVersion(1, 200), commonVersion(2, 200), commonVersion(0, 0)],
    [1, 1, null, null],
  );
});

run();
