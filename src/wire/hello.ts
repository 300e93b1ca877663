/**
 * How two ends of a connection prove to each other that they have the key of the cluster, and agree on a version.
 *
 * ```text
 *   asks                                                  accepts
 *        ◄── CHALLENGE: nonce, versions, node, cluster ──
 *        ─── HELLO: nonce, proof, version, client ───────►   who has no key learns nothing but a nonce
 *        ◄── WELCOME: proof, credits, addresses ─────────
 * ```
 *
 * A proof is over all that was said before it, with a label of its own: a nonce of each end is in it, so none can be used again,
 * on this connection or on another; and nobody between can change a version, a feature or an address unseen. There is no hello
 * without a key, also on loopback. What follows is not encrypted, and has sums against accidents, not against attackers.
 */

import { type ClusterKey, MAC_BYTES, NONCE_BYTES } from '../ports/cluster-key.js';
import { type ChallengeFields, decodeControl, encodeControl, type HelloFields, type WelcomeFields } from './control.js';
import { STATUS_BAD_FRAME, STATUS_BAD_VERSION, STATUS_DENIED, STATUS_WRONG_CLUSTER } from './messages.js';
import { WireRefusal } from './refusal.js';
import { commonVersion, VERSION_LEAST, VERSION_MOST } from './versions.js';

const HELLO_LABEL = 'strake hello 1\0';
const WELCOME_LABEL = 'strake welcome 1\0';

/** Whoever accepts is a manager, and takes calls (`src/wire/manager-calls.ts`). */
export const FEATURE_MANAGER = 'manager';
/**
 * Whoever accepts takes a second connection of a session, for its PINGs alone; whoever asks for it names the session that there
 * is.
 */
export const FEATURE_PINGS = 'pings';

/** Who accepts, as it tells those who ask. */
export interface NodeIdentity {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly features: readonly string[];
}

/** Who asks. */
export interface ClientIdentity extends Omit<HelloFields, 'version' | 'features'> {
  /** Null: any that has the key, which proves it. */
  readonly clusterId: string | null;
  readonly features: readonly string[];
}

/** What was agreed on. */
export interface Agreement {
  /** Whoever has accepted the connection: of a node, another one in each life of its process. */
  readonly nodeId: string;
  readonly version: number;
  readonly features: readonly string[];
  /** What the other end could do besides. */
  readonly offered: readonly string[];
}

/** The message that is authenticated: a label, and each part behind its length, so that no part can take bytes of another. */
function transcript(label: string, ...parts: readonly Uint8Array[]): Uint8Array {
  const head = new TextEncoder().encode(label);
  const message = new Uint8Array(head.length + parts.reduce((sum, part) => sum + 4 + part.length, 0));
  message.set(head);
  const view = new DataView(message.buffer);
  let at = head.length;
  for (const part of parts) {
    view.setUint32(at, part.length, true);
    message.set(part, at + 4);
    at += 4 + part.length;
  }
  return message;
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function demandBytes(name: string, payload: Uint8Array, least: number): void {
  if (payload.length > least) return;
  throw new WireRefusal(STATUS_BAD_FRAME, `${name}: ${payload.length} bytes, where more than ${least} have to be`);
}

/** The end that has accepted a connection. Payloads that come are copied where they are kept. */
export class HelloAnswerer {
  private readonly key: ClusterKey;
  private readonly self: NodeIdentity;
  private said: Uint8Array = new Uint8Array(0);
  private heard: Uint8Array | null = null;

  constructor(key: ClusterKey, self: NodeIdentity) {
    this.key = key;
    this.self = self;
  }

  /** The payload of CHALLENGE. */
  challenge(): Uint8Array {
    const { nodeId, clusterId, features } = this.self;
    const about = { versionLeast: VERSION_LEAST, versionMost: VERSION_MOST, features, nodeId, clusterId };
    this.said = joined(this.key.nonce(), encodeControl('challenge', about));
    this.heard = null;
    return this.said;
  }

  /** Takes the payload of HELLO: who asks, which is proven. Throws a `WireRefusal`. */
  takeHello(payload: Uint8Array): HelloFields {
    demandBytes('HELLO', payload, NONCE_BYTES + MAC_BYTES);
    const nonce = payload.slice(0, NONCE_BYTES);
    const proof = payload.slice(NONCE_BYTES, NONCE_BYTES + MAC_BYTES);
    const about = payload.slice(NONCE_BYTES + MAC_BYTES);
    // Before it is looked at: whoever has no key is told nothing about the rest.
    if (!this.key.verify(transcript(HELLO_LABEL, this.said, nonce, about), proof)) {
      throw new WireRefusal(STATUS_DENIED, 'whoever asks does not have the key of this cluster');
    }
    const hello = decodeControl('hello', about);
    if (commonVersion(hello.version, hello.version) === null) {
      const spoken = `${VERSION_LEAST} to ${VERSION_MOST}`;
      throw new WireRefusal(STATUS_BAD_VERSION, `version ${hello.version} is chosen, and ${spoken} are spoken here`);
    }
    const unknown = hello.features.find((feature) => !this.self.features.includes(feature));
    if (unknown !== undefined) throw new WireRefusal(STATUS_BAD_VERSION, `there is no feature ${unknown} here`);
    this.heard = payload.slice();
    return hello;
  }

  /** The payload of WELCOME, after HELLO has been taken. */
  welcome(terms: WelcomeFields): Uint8Array {
    if (this.heard === null) throw new Error('a welcome before the hello');
    const about = encodeControl('welcome', terms);
    return joined(this.key.authenticate(transcript(WELCOME_LABEL, this.said, this.heard, about)), about);
  }
}

/** The end that has asked for a connection. */
export class HelloAsker {
  private readonly key: ClusterKey;
  private readonly self: ClientIdentity;
  private heard: Uint8Array = new Uint8Array(0);
  private said: Uint8Array | null = null;
  private agreed: Agreement | null = null;

  constructor(key: ClusterKey, self: ClientIdentity) {
    this.key = key;
    this.self = self;
  }

  /**
   * Takes the payload of CHALLENGE: who has accepted, which is not proven yet. Returns the payload of HELLO. Throws a
   * `WireRefusal`.
   */
  takeChallenge(payload: Uint8Array): { readonly challenge: ChallengeFields; readonly hello: Uint8Array } {
    demandBytes('CHALLENGE', payload, NONCE_BYTES);
    const challenge = decodeControl('challenge', payload.subarray(NONCE_BYTES));
    const { clusterId, clientId, session, principal } = this.self;
    if (clusterId !== null && challenge.clusterId !== clusterId) {
      const words = `the node belongs to cluster ${challenge.clusterId}, and not to ${clusterId}`;
      throw new WireRefusal(STATUS_WRONG_CLUSTER, words);
    }
    const version = commonVersion(challenge.versionLeast, challenge.versionMost);
    if (version === null) {
      const theirs = `${challenge.versionLeast} to ${challenge.versionMost}`;
      const words = `the node speaks versions ${theirs}, and ${VERSION_LEAST} to ${VERSION_MOST} are spoken here`;
      throw new WireRefusal(STATUS_BAD_VERSION, words);
    }
    const features = this.self.features.filter((feature) => challenge.features.includes(feature));
    const about = encodeControl('hello', { version, features, clientId, session, principal });
    const nonce = this.key.nonce();
    this.heard = payload.slice();
    const proof = this.key.authenticate(transcript(HELLO_LABEL, this.heard, nonce, about));
    this.said = joined(nonce, proof, about);
    this.agreed = { version, features, offered: challenge.features, nodeId: challenge.nodeId };
    return { challenge, hello: this.said };
  }

  /** Takes the payload of WELCOME: what is granted, and by whom is proven. Throws a `WireRefusal`. */
  takeWelcome(payload: Uint8Array): WelcomeFields & Agreement {
    demandBytes('WELCOME', payload, MAC_BYTES);
    const { said, agreed } = this;
    if (said === null || agreed === null) throw new WireRefusal(STATUS_BAD_FRAME, 'WELCOME before CHALLENGE');
    const about = payload.slice(MAC_BYTES);
    if (!this.key.verify(transcript(WELCOME_LABEL, this.heard, said, about), payload.slice(0, MAC_BYTES))) {
      throw new WireRefusal(STATUS_DENIED, 'the node does not have the key of this cluster');
    }
    return { ...decodeControl('welcome', about), ...agreed };
  }
}
