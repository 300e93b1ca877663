/**
 * A session with a node: what is asked there, on one connection after another, until it ends for good.
 *
 * ```text
 *   connecting ─► greeting ─► reopening ─► open ──► broken ─► connecting ...
 *        │           │            │                   │
 *        └───────────┴────────────┴───────────────────┴──► failed: not within the time, or not as it was
 * ```
 *
 * When a connection breaks, one other is tried. What has not been answered is sent again there, under the same stamps and in the
 * order in which it was asked for, after maps that were on their way and after each replica has been opened again as the
 * same one: same device, same incarnation. The node has by then carried out or thrown away all that came before, so no earlier
 * copy of a request comes later than its answer.
 *
 * Deadlines come from the clock of the ports, and time in which this process itself was kept from listening does not count.
 * Silence counts only while the node is asked whether it is there.
 */

import { check } from '../../core/check.js';
import { EIO, ESTALE } from '../../core/errno.js';
import { isManaged, type ReplicaMap } from '../../layout/replica-map.js';
import { NO_REASON } from '../../net/stream-connection.js';
import type { SegmentList } from '../../ports/segment-list.js';
import type { SegmentRequest } from '../../ports/segment-request.js';
import { NO_FILE, type StreamAddress } from '../../ports/transport.js';
import type { DeviceState, WelcomeFields } from '../../wire/control.js';
import { Credits } from '../../wire/credits.js';
import type { Agreement } from '../../wire/hello.js';
import { STATUS_ERRNO_MAX } from '../../wire/limits.js';
import { KIND_CLOSE, KIND_OPEN, KIND_PING, KIND_STORE_MAP, STATUS_OK, STATUS_STALE_MAP } from '../../wire/messages.js';
import type { Answer } from '../../wire/reply-codec.js';
import type { Role } from '../../wire/ticket.js';
import { CONNECT_MS, RECONNECT_MS, SESSION_ALERT_TICK_MS, SILENT_RECONNECT_MS } from '../limits.js';
import { type Asked, AskedTable, type ControlAddress, type ControlAnswer, type ControlCall } from './asked.js';
import { AskingConnection, type AskingSession } from './asking-connection.js';
import { AwakeClock } from './awake-clock.js';
import type { Opening } from './node-calls.js';
import { Pings } from './pings.js';
import type { MemberSession, RemoteMember } from './remote-member.js';
import { SessionReplicas } from './session-replicas.js';
import type { SessionService } from './session-service.js';

const TAG_CONNECT = 0;

type SessionState = 'connecting' | 'greeting' | 'reopening' | 'open' | 'broken' | 'failed';

export interface SessionHooks {
  /** The node has told which devices it has, as it does again and again. */
  onDevices(devices: readonly DeviceState[]): void;
  /** It has failed for good, and nothing is asked of the node any more. */
  onFailed(reason: string): void;
  /** The node tells of maps that others have brought. */
  onMaps(maps: readonly ReplicaMap[]): void;
}

const FAILED: ControlAnswer = { status: EIO, payload: null, maps: [], incarnation: 0, leaseMs: 0 };

export class NodeSession implements AskingSession, MemberSession {
  readonly asked = new AskedTable();
  private readonly service: SessionService;
  private readonly address: StreamAddress;
  private readonly hooks: SessionHooks;
  private readonly token: number;
  private readonly replicas: SessionReplicas;
  private state: SessionState = 'connecting';
  private wasOpen = false;
  /** Since when it is to be open: since its beginning, or since its last connection broke. */
  private sinceMs: number;
  /** The node has said that it wants no session, and why. */
  private isRefused = false;
  private connection: AskingConnection | null = null;
  /** The file of the connection that is asked for. */
  private file = NO_FILE;
  private connecting = false;
  private ticking = false;
  private number = 0;
  private credits = new Credits(0, 0);
  /** What is to be sent, in order; while replicas are opened again only what that needs. */
  private queue: Asked[] = [];
  private urgent: Asked[] = [];
  private readonly pings: Pings;
  private readonly awake: AwakeClock;
  /** Why it is not open, or has failed. */
  reason = '';
  private disposed = false;
  /** Why it is to be given up when what has been received is looked at. */
  private doom = '';

  constructor(service: SessionService, address: StreamAddress, hooks: SessionHooks) {
    const { completions, clock } = service.parts.ports;
    this.service = service;
    this.address = address;
    this.hooks = hooks;
    this.awake = new AwakeClock(clock);
    this.sinceMs = this.awake.nowMs();
    this.replicas = new SessionReplicas(service, {
      call: (control, first) => this.call(control, first),
      failed: () => this.failed,
      reopening: () => this.state === 'reopening',
      fail: (reason) => this.fail(reason),
      onMaps: (maps) => hooks.onMaps(maps),
      askLeases: () => this.pings.soon(),
    });
    this.pings = new Pings({
      ...{ service, address, leases: this.replicas.leases },
      call: (control) => this.call(control, true),
      isOpen: () => this.state === 'open',
      failed: () => this.failed,
      nowMs: () => clock.nowMs(),
      onDevices: (devices) => hooks.onDevices(devices),
    });
    this.token = completions.register({
      complete: (tag, result) => (tag === TAG_CONNECT ? this.connected(result) : this.tick(result)),
    });
    this.connect();
    this.startTick();
  }

  private get ports() {
    return this.service.parts.ports;
  }

  get failed(): boolean {
    return this.state === 'failed';
  }

  /** What has been asked for and not answered. */
  get outstanding(): number {
    return this.asked.size;
  }

  private enter(state: SessionState): void {
    check(this.state !== 'failed', 'a session goes on that has failed', this.number);
    this.state = state;
  }

  // ---------------------------------------------------------------- connections

  private connect(): void {
    check(this.connection === null && !this.connecting, 'a session has two connections', this.number);
    this.enter('connecting');
    this.connecting = true;
    this.file = this.ports.transport.connect(this.address, this.token + TAG_CONNECT);
  }

  private connected(result: number): void {
    this.connecting = false;
    this.file = NO_FILE;
    const { transport, clock } = this.ports;
    const connection = result >= 0 && !this.failed ? this.service.takeConnection() : null;
    if (connection !== null) {
      const { session, hello } = this.service.newHello();
      this.number = session;
      this.connection = connection;
      this.enter('greeting');
      this.pings.silence.heard(clock.nowMs());
      connection.open(result, clock.nowMs(), this, hello);
      return;
    }
    // Whoever gave it up has closed the file, whose number may be that of another by now.
    if (result >= 0 && !this.failed) {
      transport.shutdown(result);
      transport.close(result);
    }
    if (this.failed) this.disposeIfOver();
    else this.fail(result < 0 ? `it cannot be reached (errno ${-result})` : 'there are too many sessions');
  }

  /** The handshake is over. */
  welcomed({ creditRequests, creditBytes, offered, nodeId }: WelcomeFields & Agreement): void {
    check(this.state === 'greeting', 'a session is welcomed that was not asked for', this.number);
    if (!this.replicas.isOf(nodeId)) {
      this.fail('its node has been started anew');
      return;
    }
    this.credits = new Credits(creditRequests, creditBytes);
    this.enter('reopening');
    this.pings.welcomed(this.number, offered);
    const maps = this.queue.filter(({ control }) => control?.kind === KIND_STORE_MAP);
    this.queue = this.queue.filter((asked) => !maps.includes(asked));
    this.urgent = maps;
    void this.replicas.reopenAll().then(() => this.reopened());
    this.markAsked();
  }

  private reopened(): void {
    if (this.state !== 'reopening') return;
    this.enter('open');
    this.queue = [...this.urgent, ...this.queue];
    this.urgent = [];
    this.wasOpen = true;
    this.pings.begin();
    this.markAsked();
  }

  /** The connection is no more. */
  broken(why: string): void {
    if (this.state === 'failed' || this.state === 'broken') return;
    const reason = why === NO_REASON ? 'its node has ended the connection' : why;
    if (this.state === 'open') this.sinceMs = this.awake.nowMs() - this.alreadyMs;
    else if (!this.mayTryAgain()) {
      this.fail(reason);
      return;
    }
    check(this.connection !== null, 'a session breaks that has no connection', this.number);
    this.reason = reason;
    this.state = 'broken';
    // Before it asks for another connection: its node does not end them by that.
    this.pings.end();
  }

  /** What counts, of the time for another connection, as gone when one breaks: a node that is silent has been waited for. */
  private get alreadyMs(): number {
    return this.pings.silence.tooLong(this.ports.clock.nowMs()) ? RECONNECT_MS - SILENT_RECONNECT_MS : 0;
  }

  /** Whether a connection that has broken before its session was served may be followed by another. */
  private mayTryAgain(): boolean {
    return this.wasOpen && !this.isRefused && this.awake.nowMs() - this.sinceMs < RECONNECT_MS;
  }

  /** Nothing uses what the connection used any more. */
  freed(): void {
    check(this.connection !== null, 'a session loses a connection that it has not', this.number);
    this.connection = null;
    if (this.failed) {
      this.endAll();
      return;
    }
    this.urgent = [];
    this.queue = [];
    for (const asked of [...this.asked.values()]) {
      asked.credited = false;
      if (asked.answered) this.conclude(asked);
      else if (asked.control?.once) this.give(asked, FAILED);
      else {
        asked.id = 0;
        this.queue.push(asked);
      }
    }
    if (!this.failed) this.connect();
  }

  /** Gives the node up. */
  fail(reason: string): void {
    if (this.failed) return;
    this.reason = reason;
    this.enter('failed');
    this.replicas.dropAll(reason);
    this.pings.close();
    if (this.connecting && this.file !== NO_FILE) {
      this.ports.transport.shutdown(this.file);
      this.ports.transport.close(this.file);
    }
    if (this.connection !== null) this.connection.end(reason);
    else this.endAll();
    this.hooks.onFailed(reason);
  }

  /** All that was asked for has failed; nothing of it is in use. */
  private endAll(): void {
    this.queue = [];
    this.urgent = [];
    for (const asked of [...this.asked.values()]) {
      if (asked.answered) this.conclude(asked);
      else this.give(asked, FAILED);
    }
    this.disposeIfOver();
  }

  private disposeIfOver(): void {
    if (this.disposed || !this.failed || this.connection !== null || this.connecting || this.ticking) return;
    this.disposed = true;
    this.ports.completions.unregister(this.token);
  }

  // ---------------------------------------------------------------- asking

  submit(member: RemoteMember, request: SegmentRequest): void {
    request.bring(this.ports.memory);
    const asked = this.begin(member, request.token);
    if (asked === null) return;
    asked.request = request;
    this.enqueue(asked);
  }

  list(member: RemoteMember, list: SegmentList): void {
    const asked = this.begin(member, list.token);
    if (asked === null) return;
    asked.list = list;
    this.enqueue(asked);
  }

  private begin(member: RemoteMember, token: number): Asked | null {
    if (this.failed || member.failed) {
      this.ports.completions.defer(token, -EIO);
      return null;
    }
    const asked = this.asked.take();
    asked.member = member;
    asked.token = token;
    return asked;
  }

  private enqueue(asked: Asked): void {
    this.queue.push(asked);
    this.markAsked();
  }

  private call(control: Omit<ControlCall, 'resolve'>, first = false): Promise<ControlAnswer> {
    if (this.failed) return Promise.resolve(FAILED);
    return new Promise((resolve) => {
      const asked = this.asked.take();
      asked.control = { ...control, resolve };
      if (!first) this.queue.push(asked);
      else if (this.state === 'open') this.queue.unshift(asked);
      else this.urgent.push(asked);
      this.markAsked();
    });
  }

  private markAsked(): void {
    if (this.state === 'open' || this.state === 'reopening') this.connection?.markAsked();
  }

  /** Puts what waits on its way, as far as credits and buffers go. Called at the end of a batch. */
  send(): void {
    if (this.state !== 'open' && this.state !== 'reopening') return;
    const queue = this.state === 'open' ? this.queue : this.urgent;
    if (queue.length === 0) return;
    // Payloads may have been asked to be copied, and are summed.
    this.ports.memory.carryOut();
    let sent = 0;
    while (sent < queue.length && this.sendOne(queue[sent])) sent += 1;
    queue.splice(0, sent);
  }

  private sendOne(asked: Asked): boolean {
    const { connection, credits } = this;
    check(connection !== null, 'something is sent without a connection', asked.slot);
    if (asked.member?.failed) {
      this.give(asked, FAILED);
      return true;
    }
    const { control } = asked;
    const payload = control?.payload() ?? null;
    const bytes = AskingConnection.payloadBytes(asked, payload);
    const credited = control === null || (control.kind !== KIND_PING && control.kind !== KIND_CLOSE);
    if (credited && !credits.mayTake(bytes)) return false;
    const head = this.service.resources.takeBuffer(AskingConnection.headBytes(asked, payload));
    if (head === null) return false;
    if (credited) credits.take(bytes);
    asked.credited = credited;
    asked.payload = bytes;
    asked.head = head;
    asked.sinceMs = this.awake.nowMs();
    this.asked.number(asked);
    connection.ask(asked, this.number, payload);
    control?.onSent?.();
    return true;
  }

  // ---------------------------------------------------------------- answers

  /** An answer has come, whole. `value`: of a list, the entries of the page. */
  answered(asked: Asked, answer: Answer, value?: number): void {
    this.note(asked, answer, value);
    this.concludeIfSent(asked);
  }

  /** Takes an answer; whoever asked is told later. */
  note(asked: Asked, answer: Answer, value?: number): void {
    const { member, control } = asked;
    check(!asked.answered, 'a request is answered twice', asked.slot);
    asked.answered = true;
    if (control?.kind === KIND_OPEN && asked.about !== null && answer.status === STATUS_OK) {
      this.replicas.leases.opened(asked.about);
    }
    if (control !== null || member === null) return;
    member.told(answer);
    if (answer.status > STATUS_ERRNO_MAX) this.refusedBy(member, asked, answer.status);
    else asked.result = answer.status === STATUS_OK && value !== undefined ? value : answer.asResult;
  }

  /** A request was not admitted. That its member has a newer map is no fault of the member. */
  private refusedBy(member: RemoteMember, asked: Asked, status: number): void {
    // Where nobody manages volumes, two processes that decide about one are a fault.
    const isNewer = status === STATUS_STALE_MAP && member.map.authentication !== undefined;
    asked.result = isNewer ? -ESTALE : -EIO;
    if (isNewer || member.failed) return;
    const reason = `its node does not take what is asked of a replica any more (status ${status})`;
    this.replicas.drop(member, reason);
    this.doom = reason;
  }

  /** The node wants no session: there is no other connection to be tried. */
  refused(): void {
    this.isRefused = true;
  }

  /** Gives the node up if one of its answers was a reason to: another session finds out how things are. */
  endIfDoomed(): void {
    if (this.doom !== '') this.fail(this.doom);
  }

  /** Tells whoever asked, unless the kernel still has what was sent: then that is done at its end. */
  concludeIfSent(asked: Asked): void {
    if (asked.sending === 0) this.conclude(asked);
  }

  conclude(asked: Asked): void {
    if (asked.credited) {
      this.credits.give(asked.payload);
      if (this.queue.length > 0) this.markAsked();
    }
    if (asked.control !== null) this.give(asked, asked.answer ?? FAILED);
    else this.end(asked, asked.result);
  }

  /** Ends what was asked for with what the node has answered to a call, or, of a request, as failed. */
  private give(asked: Asked, answer: ControlAnswer): void {
    const { control } = asked;
    if (control === null) {
      this.end(asked, -EIO);
      return;
    }
    this.asked.release(asked);
    control.resolve(answer);
  }

  private end(asked: Asked, result: number): void {
    const { token } = asked;
    check(asked.control === null && asked.sending === 0, 'a request ends that is being sent', asked.slot);
    this.asked.release(asked);
    this.ports.completions.finish(token, result, 0);
  }

  mapsChanged(maps: readonly ReplicaMap[]): void {
    if (maps.some(isManaged)) this.pings.soon();
    this.hooks.onMaps(maps);
  }

  // ---------------------------------------------------------------- replicas

  /** See `SessionReplicas.open`. */
  open(map: ReplicaMap, index: number, role: Role): Promise<Opening> {
    return this.replicas.open(this, map, index, role);
  }

  /** See `SessionReplicas.storeMap`. */
  storeMap(map: ReplicaMap, index: number): Promise<number> {
    return this.replicas.storeMap(map, index);
  }

  closeReplica(member: RemoteMember): void {
    this.replicas.close(member);
  }

  replicaChanged(replica: ControlAddress): void {
    this.replicas.leases.changed(replica);
  }

  // ---------------------------------------------------------------- time

  private startTick(): void {
    this.ticking = true;
    const { silence } = this.pings;
    const ms = this.state === 'open' ? silence.pauseMs(this.ports.clock.nowMs()) : SESSION_ALERT_TICK_MS;
    this.ports.clock.after(ms, this.token + 1);
  }

  private tick(result: number): void {
    this.ticking = false;
    if (this.failed || result < 0) {
      this.disposeIfOver();
      return;
    }
    const nowMs = this.ports.clock.nowMs();
    this.pings.tick(nowMs, this.connection?.heard ?? 0);
    if (!this.awake.tick()) this.check(nowMs);
    if (this.failed) this.disposeIfOver();
    else this.startTick();
  }

  private check(nowMs: number): void {
    if (this.state !== 'open') {
      const mostMs = this.wasOpen ? (this.connection?.patienceMs ?? RECONNECT_MS) : CONNECT_MS;
      if (this.awake.nowMs() - this.sinceMs >= mostMs) this.fail(`it is not reached again: ${this.reason}`);
      return;
    }
    if (this.pings.silence.tooLong(nowMs)) {
      this.connection?.end('it says nothing');
      return;
    }
    if (this.asked.isOverdue(this.awake.nowMs() - this.service.times.now.deviceOperationMs))
      this.fail('it answers, and does not do what it was asked for');
    else this.pings.askIfDue(nowMs);
  }
}
