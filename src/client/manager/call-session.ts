/**
 * A session with a manager of the cluster: its calls, over one connection after another, for as long as it lives.
 *
 * ```text
 *   connecting ─► greeting ─► open ──► broken ─► connecting ...
 *        │            │                  │
 *        └────────────┴──────────────────┴──► waiting ─► connecting, at the next address     closed
 * ```
 *
 * A call waits for a connection, and is sent again on the next one when its answer was lost with one that broke: the manager has
 * by then carried out or thrown away all that came on the older one (`src/wire/session-desk.ts`). What is sent again is asked
 * for so that it is not done twice: an attach names the generation before it, a change the version, a new volume its id, and
 * a volume is named by its id where its name is what changes. What cannot be asked for twice fails, and may have been done.
 *
 * Fault model: a manager is not there, stops, starts anew with other promises, or answers never, slowly or garbage.
 */

import { check } from '../../core/check.js';
import { TimesHeard } from '../../core/cluster-times.js';
import { StrakeError } from '../../core/errors.js';
import { addressText } from '../../core/stream-address.js';
import type { ReplicaMap } from '../../layout/replica-map.js';
import { ConnectionResources, type NetPorts, type NetSizes } from '../../net/connection-resources.js';
import type { ClusterKey } from '../../ports/cluster-key.js';
import { NO_FILE, type StreamAddress } from '../../ports/transport.js';
import { decodeFailure } from '../../wire/control.js';
import { FEATURE_MANAGER, HelloAsker } from '../../wire/hello.js';
import { CALL_PARTS_MAX, PART_BYTES_MAX } from '../../wire/limits.js';
import { decodeBody, encodeBody } from '../../wire/manager-bodies.js';
import { type CallAnswer, type CallName, type CallRequest, callOf } from '../../wire/manager-calls.js';
import { PART_BUFFER_BYTES } from '../../wire/message-parts.js';
import { CALL_NAMES, KIND_CALL } from '../../wire/messages.js';
import {
  CALL_MS,
  CALLING_RECEIVE_BYTES,
  CALLS_SENT_MAX,
  CALLS_WAITING_MAX,
  CONNECT_MS,
  SESSION_RETRY_MS,
  SESSION_TICK_MS,
} from '../limits.js';
import { Silence } from '../members/silence.js';
import { CallConnection, type CallingSession } from './call-connection.js';

const TAG_CONNECT = 0;
const TAG_TICK = 1;

/** How much of everything a session has: one connection. */
const CALLING_SIZES: NetSizes = {
  connections: 1,
  receiveBytes: CALLING_RECEIVE_BYTES,
  sendBytesMax: PART_BUFFER_BYTES,
  bulkBuffers: 0,
  classes: [{ bytes: PART_BUFFER_BYTES, count: 1 }],
};

/** Memory of a session: page-aligned. */
export const CALLING_BYTES = ConnectionResources.regionBytes(CALLING_SIZES);

export interface SessionState {
  readonly connected: boolean;
  /** Of the manager that is connected, or was tried last. */
  readonly address: string;
  /** Why it is not connected. */
  readonly reason: string;
}

export interface CallSessionParts {
  readonly ports: NetPorts;
  /** Start of `CALLING_BYTES` of page-aligned memory. */
  readonly memoryStart: number;
  readonly key: ClusterKey;
  /** Null: any cluster that has the key. */
  readonly clusterId: string | null;
  /** One shard of a process: 32 hexadecimal digits, different in each of its lives, and of one session at a time. */
  readonly clientId: string;
  /** In whose name. */
  readonly principal: string;
  /** Where managers may be: at least one. They are tried in turn. */
  readonly addresses: readonly StreamAddress[];
  /** Time for a call; absent: `CALL_MS`. */
  readonly callMs?: number;
  /** By which a manager is asked whether it is there. Absent: those of a cluster where nobody has set any. */
  readonly times?: TimesHeard;
  readonly hooks: CallSessionHooks;
}

export interface CallSessionHooks {
  /** Maps have been decided, of volumes that were attached or fetched in this session. Some may go untold. */
  onMaps(maps: readonly ReplicaMap[]): void;
  onState(state: SessionState): void;
}

/** A call from the moment when it is asked for until it is answered. */
interface Pending {
  readonly name: CallName;
  readonly bytes: Uint8Array;
  readonly sinceMs: number;
  /** How often it has been sent. */
  sent: number;
  /** Whoever asked has been told that there is no answer; the manager may still be carrying it out. */
  isOver: boolean;
  /** Whether it is still to be asked, when it could be for the first time. */
  readonly wanted: () => boolean;
  resolve(answer: unknown): void;
  reject(error: StrakeError): void;
}

/** Calls that would do something else if they were sent again. */
const ONCE: ReadonlySet<CallName> = new Set(['startWithout']);

type State = 'connecting' | 'greeting' | 'open' | 'broken' | 'waiting' | 'closed';

export class CallSession implements CallingSession {
  private readonly parts: CallSessionParts;
  private readonly resources: ConnectionResources;
  private readonly connection: CallConnection;
  private readonly token: number;
  private readonly receiveToken: number;
  private readonly sendToken: number;
  private readonly callMs: number;
  private state: State = 'waiting';
  private isConnecting = false;
  private file = NO_FILE;
  /** Index of the address that is tried or used, and how many have failed in a row. */
  private address = 0;
  private failures = 0;
  /** Since when it is in its state. */
  private sinceMs: number;
  private reason = 'it has not been reached yet';
  /** What was told last. */
  private told: string | null = null;
  private isRefused = false;
  private ticking = false;
  private disposed = false;
  /** Numbers of sessions and of calls: each is higher than those before. */
  private number = 0;
  private lastId = 0;
  private waiting: Pending[] = [];
  private readonly sent = new Map<number, Pending>();
  private question = 0;
  private readonly silence: Silence;

  constructor(parts: CallSessionParts) {
    const { ports, memoryStart, key, callMs = CALL_MS, times = new TimesHeard(), addresses } = parts;
    const { completions, clock } = ports;
    check(addresses.length > 0, 'a session has no manager to reach');
    this.parts = parts;
    this.callMs = callMs;
    this.resources = new ConnectionResources(ports, memoryStart, CALLING_SIZES);
    this.receiveToken = completions.register({
      complete: (_, result, flags) => this.connection.onReceived(result, flags),
    });
    this.sendToken = completions.register({ complete: (_, result) => this.connection.onSent(result) });
    const { resources, receiveToken, sendToken } = this;
    this.connection = new CallConnection({ resources, receiveToken, sendToken, key, session: this });
    this.sinceMs = clock.nowMs();
    this.silence = new Silence(this.sinceMs, times);
    this.token = completions.register({
      complete: (tag, result) => (tag === TAG_CONNECT ? this.connected(result) : this.tick(result)),
    });
    this.connect();
    this.startTick();
  }

  private nowMs(): number {
    return this.parts.ports.clock.nowMs();
  }

  private enter(state: State): void {
    check(this.state !== 'closed', 'a session with a manager goes on that is closed', this.number);
    this.state = state;
    this.sinceMs = this.nowMs();
  }

  private get addressText(): string {
    return addressText(this.parts.addresses[this.address]);
  }

  // ---------------------------------------------------------------- connections

  private connect(): void {
    const { ports, addresses } = this.parts;
    check(!this.isConnecting, 'a manager is asked for two connections at a time', this.number);
    this.enter('connecting');
    this.isConnecting = true;
    this.file = ports.transport.connect(addresses[this.address], this.token + TAG_CONNECT);
  }

  private connected(result: number): void {
    const { key, clusterId, clientId, principal } = this.parts;
    this.isConnecting = false;
    this.file = NO_FILE;
    if (result < 0 || this.state !== 'connecting') {
      if (result >= 0) this.giveUp(result);
      if (this.state === 'connecting') this.tryNext(`it cannot be reached (errno ${-result})`);
      else if (this.state === 'broken') this.tryNext(this.reason);
      else this.disposeIfOver();
      return;
    }
    this.number += 1;
    check(this.number < 2 ** 32, 'numbers of sessions with managers are used up', this.number);
    this.enter('greeting');
    this.isRefused = false;
    this.silence.heard(this.sinceMs);
    const about = { clientId, clusterId, session: this.number, principal, features: [FEATURE_MANAGER] };
    this.connection.open(result, this.sinceMs, this.number, new HelloAsker(key, about));
  }

  private giveUp(file: number): void {
    const { transport } = this.parts.ports;
    transport.shutdown(file);
    transport.close(file);
  }

  welcomed(): void {
    check(this.state === 'greeting', 'a manager welcomes a session that did not greet it', this.number);
    this.enter('open');
    this.failures = 0;
    this.silence.answered();
    this.tell('');
    this.sendWaiting();
  }

  refused(): void {
    this.isRefused = true;
  }

  broken(reason: string): void {
    if (this.state === 'broken' || this.state === 'closed') return;
    const wasOpen = this.state === 'open';
    // What breaks as soon as it is open is tried again as something that cannot be reached.
    if (wasOpen && this.nowMs() - this.sinceMs >= SESSION_RETRY_MS) this.failures = -1;
    this.enter('broken');
    this.reason = reason;
    if (wasOpen) this.tell(reason);
    this.askAgain();
    // Whoever is refused is not let in a moment later, but perhaps by the next one, unless all have been tried.
    const isLast = (this.failures + 1) % this.parts.addresses.length === 0;
    if (this.isRefused && isLast) this.rejectAll((name) => `${name}: ${this.addressText}: ${reason}`);
  }

  /** Tells how things are, if they have changed; with a reason it is not connected. */
  private tell(reason: string): void {
    if (this.told === reason) return;
    this.told = reason;
    this.parts.hooks.onState({ connected: reason === '', address: this.addressText, reason });
  }

  /** What was sent and not answered is to be sent again, in its order, before what waits. */
  private askAgain(): void {
    const again: Pending[] = [];
    for (const pending of this.sent.values()) {
      if (pending.isOver) continue;
      if (!ONCE.has(pending.name)) again.push(pending);
      else pending.reject(unknown(pending.name, this.reason));
    }
    this.sent.clear();
    check(
      again.every(({ sent }) => sent > 0),
      'a call is to be sent again that was never sent',
      again.length,
    );
    this.waiting = [...again, ...this.waiting];
  }

  freed(): void {
    check(this.state !== 'open', 'a session with a manager is open without a connection', this.number);
    if (this.state === 'broken') this.tryNext(this.reason);
    else this.disposeIfOver();
  }

  /** Another attempt: at the address that had been in use, else at the next one; after a while if all have failed. */
  private tryNext(reason: string): void {
    const { addresses } = this.parts;
    this.reason = reason;
    this.tell(reason);
    this.failures += 1;
    check(this.connection.isFree, 'another manager is tried while one is connected', this.failures);
    check(this.sent.size === 0, 'another manager is tried while calls are on their way', this.sent.size);
    if (this.failures === 0) {
      this.connect();
      return;
    }
    this.address = (this.address + 1) % addresses.length;
    if (this.failures % addresses.length === 0) this.enter('waiting');
    else this.connect();
  }

  // ---------------------------------------------------------------- calls

  /** Asks for something. Rejects with `ERR_STRAKE_NO_MANAGER` if there is no answer in time. */
  async ask<Name extends CallName>(
    name: Name,
    request: CallRequest<Name>,
    wanted = () => true,
  ): Promise<CallAnswer<Name>> {
    if (this.state === 'closed') throw new StrakeError('CLOSED', `${name}: the session with the manager is closed`);
    const bytes = encodeBody(callOf(name).request, request);
    if (bytes.length > CALL_PARTS_MAX * PART_BYTES_MAX) {
      throw new StrakeError('INVALID_ARGUMENT', `${name}: ${bytes.length} bytes are too many for a call`);
    }
    if (this.waiting.length >= CALLS_WAITING_MAX) {
      throw new StrakeError('BUSY', `${name}: ${this.waiting.length} calls wait for a manager`);
    }
    const answer = await new Promise<unknown>((resolve, reject) => {
      this.waiting.push({ name, bytes, sinceMs: this.nowMs(), sent: 0, isOver: false, wanted, resolve, reject });
      this.sendWaiting();
    });
    return answer as CallAnswer<Name>;
  }

  private sendWaiting(): void {
    while (this.state === 'open' && this.sent.size < CALLS_SENT_MAX) {
      const pending = this.waiting.shift();
      if (pending === undefined) return;
      // One that was sent may have been carried out, and is asked for again to hear of that.
      if (pending.sent === 0 && !pending.wanted()) {
        pending.reject(new StrakeError('NO_MANAGER', `${pending.name}: it is not wanted any more`));
        continue;
      }
      this.lastId += 1;
      check(Number.isSafeInteger(this.lastId), 'numbers of calls are used up', this.lastId);
      pending.sent += 1;
      this.sent.set(this.lastId, pending);
      this.connection.call(KIND_CALL + CALL_NAMES.indexOf(pending.name), this.lastId, pending.bytes);
    }
  }

  answered(request: number, failed: boolean, bytes: Uint8Array): string | null {
    const pending = this.sent.get(request);
    check(pending !== undefined, 'a call is answered that was not sent', request);
    const { name, isOver } = pending;
    check(this.state === 'open', 'a call is answered while no manager is connected', request);
    const { answer } = callOf(name);
    const outcome = failed ? decodeFailure(bytes) : decodeBody(name, answer, bytes, this.parts.key);
    this.sent.delete(request);
    if (isOver) check(this.sent.size < CALLS_SENT_MAX, 'more calls are on their way than may be', this.sent.size);
    else if (outcome instanceof StrakeError) pending.reject(outcome);
    else pending.resolve(outcome);
    this.sendWaiting();
    return null;
  }

  decided(maps: readonly ReplicaMap[]): void {
    this.parts.hooks.onMaps(maps);
  }

  private rejectAll(why: (name: CallName) => string): void {
    const waiting = [...this.sent.values(), ...this.waiting];
    this.sent.clear();
    this.waiting = [];
    for (const { name, reject } of waiting) reject(new StrakeError('NO_MANAGER', why(name)));
  }

  // ---------------------------------------------------------------- time

  private startTick(): void {
    check(!this.ticking, 'the time of a session with a manager runs twice', this.number);
    this.ticking = true;
    this.parts.ports.clock.after(SESSION_TICK_MS, this.token + TAG_TICK);
  }

  private tick(result: number): void {
    this.ticking = false;
    if (this.state === 'closed' || result < 0) {
      this.disposeIfOver();
      return;
    }
    const nowMs = this.nowMs();
    this.silence.tick(nowMs, this.connection.heard);
    this.expire(nowMs);
    this.look(nowMs);
    this.startTick();
  }

  private expire(nowMs: number): void {
    const isLate = ({ sinceMs }: Pending) => nowMs - sinceMs >= this.callMs;
    for (const pending of this.sent.values()) {
      if (pending.isOver || !isLate(pending)) continue;
      pending.isOver = true;
      pending.reject(unknown(pending.name, 'it has not answered in time'));
    }
    const late = this.waiting.filter(isLate);
    this.waiting = this.waiting.filter((pending) => !isLate(pending));
    for (const { name, sent, reject } of late) {
      const { reason, addressText: address } = this;
      reject(sent > 0 ? unknown(name, reason) : new StrakeError('NO_MANAGER', `${name}: ${address}: ${reason}`));
    }
  }

  private look(nowMs: number): void {
    const { silence, connection } = this;
    const forMs = nowMs - this.sinceMs;
    if (this.state === 'waiting' && forMs >= SESSION_RETRY_MS) this.connect();
    else if (this.state === 'connecting' && forMs >= CONNECT_MS) this.stopConnecting('it does not answer');
    else if (this.state === 'greeting' && forMs >= CONNECT_MS) connection.end('it does not shake hands');
    else if (this.state !== 'open') return;
    else if (silence.tooLong(nowMs)) connection.end('it says nothing');
    else if (silence.isPingDue(nowMs)) {
      silence.asked(nowMs);
      this.question += 1;
      connection.ask(this.question);
    }
  }

  private stopConnecting(reason: string): void {
    this.reason = reason;
    this.state = 'broken';
    if (this.file !== NO_FILE) this.giveUp(this.file);
  }

  isHere(request: number): boolean {
    if (request !== this.question) return false;
    this.silence.answered();
    return true;
  }

  // ---------------------------------------------------------------- the end

  /** Ends the session: calls that wait are rejected with `ERR_STRAKE_CLOSED`. */
  close(): void {
    if (this.state === 'closed') return;
    const { isConnecting } = this;
    const waiting = [...this.sent.values(), ...this.waiting];
    this.enter('closed');
    this.sent.clear();
    this.waiting = [];
    for (const { name, reject } of waiting) reject(new StrakeError('CLOSED', `${name}: the session was closed`));
    if (isConnecting && this.file !== NO_FILE) this.giveUp(this.file);
    this.connection.end('the session was closed');
    this.disposeIfOver();
  }

  private disposeIfOver(): void {
    if (this.disposed || this.state !== 'closed' || !this.connection.isFree) return;
    if (this.isConnecting || this.ticking) return;
    check(this.sent.size === 0, 'a session with a manager ends before its calls', this.sent.size);
    check(this.waiting.length === 0, 'a session with a manager ends, and calls wait', this.waiting.length);
    this.disposed = true;
    this.resources.close();
    for (const token of [this.token, this.receiveToken, this.sendToken]) {
      this.parts.ports.completions.unregister(token);
    }
  }
}

/** A call was sent, and nobody knows what came of it. */
function unknown(name: CallName, reason: string): StrakeError {
  return new StrakeError('NO_MANAGER', `${name}: whether it was done is not known: ${reason}`);
}
