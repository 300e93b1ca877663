/**
 * Small random histories of a register, and the slow judge of them: a search through all orders of effects.
 *
 * It is the reference of the simulator's oracle (`src/sim/oracle/history.ts`), and shares nothing with it.
 */

import type { VolumeHistory } from '#strake/sim/oracle/history.js';
import { HistoryViolation } from '#strake/sim/oracle/history-report.js';
import type { SimRandom } from '#strake/sim/world/random.js';

export interface SmallOperation {
  readonly kind: 'write' | 'zero' | 'read';
  readonly sector: number;
  readonly count: number;
  readonly fua: boolean;
  /** What is written; of reads, by sector, what is returned. */
  readonly values: number[];
  began: number;
  /** Its answer; infinite if there is none. */
  ended: number;
  good: boolean;
  durable: boolean;
}

export interface SmallEvent {
  readonly kind: 'begin' | 'end' | 'flush' | 'checkpoint';
  readonly operation: number;
}

export interface SmallHistory {
  readonly operations: readonly SmallOperation[];
  /** In order; the time of an event is its position. */
  readonly events: readonly SmallEvent[];
  /** Whether a read was made to return something else. */
  readonly mutated: boolean;
}

export interface SmallOptions {
  readonly sectors: number;
  /** Sectors of each operation; `any` for ranges. */
  readonly shape: 'first' | 'whole' | 'any';
  readonly zeroes: boolean;
  /** Probability that a read returns something else. */
  readonly mutation: number;
  readonly operations: number;
  readonly concurrency: number;
}

interface Running {
  readonly operation: number;
  applied: boolean;
}

/** A history of operations that take effect one by one, except where a read is mutated. */
export function smallHistory(random: SimRandom, options: SmallOptions): SmallHistory {
  const operations: SmallOperation[] = [];
  const events: SmallEvent[] = [];
  const content = new Array<number>(options.sectors).fill(0);
  const running: Running[] = [];
  let mutated = false;
  const apply = (each: Running) => {
    const { kind, sector, count, values } = operations[each.operation];
    each.applied = true;
    for (let at = sector; at < sector + count; at += 1) {
      if (kind !== 'read') content[at] = values[at - sector];
      else values.push(content[at]);
    }
  };
  const mutate = ({ values }: SmallOperation) => {
    if (!random.chance(options.mutation)) return;
    const other = random.below(operations.length + 1);
    const value = other === 0 || operations[other - 1].kind !== 'write' ? 0 : other;
    if (options.shape === 'any') values[random.below(values.length)] = value;
    else values.fill(value);
    mutated = true;
  };
  while (operations.length < options.operations || running.length > 0) {
    const dice = random.below(20);
    if (dice === 0) events.push({ kind: 'checkpoint', operation: -1 });
    else if (dice === 1) {
      const began = events.push({ kind: 'flush', operation: -1 });
      for (const each of operations) if (each.good && each.ended < began) each.durable = true;
    } else if (operations.length < options.operations && running.length < options.concurrency && dice < 9) {
      const operation = begin(random, options, operations.length + 1);
      operation.began = events.push({ kind: 'begin', operation: operations.length });
      running.push({ operation: operations.push(operation) - 1, applied: false });
    } else if (running.length > 0) {
      const each = random.pick(running);
      const operation = operations[each.operation];
      if (!each.applied && random.chance(0.9)) apply(each);
      else if (each.applied || operation.kind !== 'read') {
        running.splice(running.indexOf(each), 1);
        if (operation.kind === 'read') mutate(operation);
        // Some are not answered, and some that did nothing are answered with an error.
        if (random.chance(0.06) && operation.kind !== 'read') continue;
        operation.good = each.applied && (operation.kind === 'read' || random.chance(0.95));
        operation.ended = events.push({ kind: 'end', operation: each.operation });
        operation.durable = operation.good && operation.fua;
      }
    }
  }
  return { operations, events, mutated };
}

function begin(random: SimRandom, { sectors, shape, zeroes }: SmallOptions, value: number): SmallOperation {
  const dice = random.below(20);
  const kind = dice < 10 ? 'read' : dice < 14 && zeroes ? 'zero' : 'write';
  const first = shape === 'any' && random.chance(0.7) ? random.below(sectors) : 0;
  const count = shape === 'first' ? 1 : first === 0 ? sectors : 1 + random.below(sectors - first);
  const written = kind === 'write' ? value : 0;
  const values = kind === 'read' ? [] : new Array<number>(count).fill(written);
  const [began, ended] = [0, Number.POSITIVE_INFINITY];
  return { kind, sector: first, count, values, fua: random.chance(0.1), began, ended, good: false, durable: false };
}

/** Plays it to the oracle. Returns the violation found by the end, if any. */
export function judge(history: SmallHistory, oracle: VolumeHistory): HistoryViolation | undefined {
  const handles = new Map<number, number>();
  try {
    for (const [index, { kind, operation }] of history.events.entries()) {
      const now = index + 1;
      if (kind === 'checkpoint') oracle.checkpoint();
      else if (kind === 'flush') oracle.end(oracle.beginFlush(now), true, now);
      else if (kind === 'begin') handles.set(operation, beginIn(oracle, history.operations[operation], operation, now));
      else endIn(oracle, history.operations[operation], handles.get(operation) as number, now);
    }
    oracle.killed(history.events.length + 1);
    oracle.checkpoint();
    return undefined;
  } catch (error) {
    if (error instanceof HistoryViolation) return error;
    throw error;
  }
}

function beginIn(oracle: VolumeHistory, each: SmallOperation, index: number, now: number): number {
  const { kind, sector, count, fua } = each;
  if (kind === 'read') return oracle.beginRead(sector, count, now);
  if (kind === 'zero') return oracle.beginZero(sector, count, fua, now);
  return oracle.beginWrite(sector, count, fua, now, index + 1);
}

function endIn(oracle: VolumeHistory, each: SmallOperation, handle: number, now: number): void {
  if (each.kind === 'read') oracle.endReadValues(handle, each.values, now);
  else oracle.end(handle, each.good, now);
}

/** What an operation is to one sector. */
export interface SectorOperation {
  readonly isRead: boolean;
  readonly value: number;
  readonly began: number;
  readonly ended: number;
  readonly good: boolean;
  readonly durable: boolean;
}

export function onSector({ operations }: SmallHistory, sector: number): SectorOperation[] {
  const here = operations.filter(
    (each) => sector >= each.sector && sector < each.sector + each.count && (each.kind !== 'read' || each.good),
  );
  return here.map(({ kind, values, sector: first, began, ended: answered, good, durable }) => {
    const later = here.filter((each) => each.good && each.kind !== 'read' && each.began > answered);
    // What failed may be done later, until something is begun that is acknowledged.
    const ended = good ? answered : Math.min(...later.map((each) => each.began - 0.5), Number.POSITIVE_INFINITY);
    return { isRead: kind === 'read', value: values[sector - first], began, ended, good, durable };
  });
}

/** Whether `later` cannot take effect before `earlier` has, if both do. */
function isBefore(earlier: SectorOperation, later: SectorOperation): boolean {
  return earlier.ended < later.began;
}

/**
 * Calls for every order of effects that explains all reads, until it returns true. The sector was zeroes at first. Writes
 * that were not acknowledged are in it or not.
 */
export function someOrder(
  operations: readonly SectorOperation[],
  visit: (order: readonly SectorOperation[]) => boolean,
): boolean {
  const order: SectorOperation[] = [];
  const used = new Array<boolean>(operations.length).fill(false);
  const extend = (value: number): boolean => {
    const missing = operations.filter((each, index) => !used[index] && each.good);
    if (missing.length === 0 && visit(order)) return true;
    for (const [index, each] of operations.entries()) {
      if (used[index] || (each.isRead && each.value !== value)) continue;
      if (missing.some((other) => other !== each && isBefore(other, each))) continue;
      if (order.some((other) => isBefore(each, other))) continue;
      used[index] = true;
      order.push(each);
      if (extend(each.value)) return true;
      order.pop();
      used[index] = false;
    }
    return false;
  };
  return extend(0);
}

export function isLinearizable(operations: readonly SectorOperation[]): boolean {
  return someOrder(operations, () => true);
}

/** Index of the last operation that wrote or saw something durable, or -1. */
function lastOfDurable(order: readonly SectorOperation[]): number {
  let [last, durable] = [-1, true];
  for (const [index, each] of order.entries()) {
    if (!each.isRead) durable = each.durable;
    if (durable) last = index;
  }
  return last;
}

/** What a sector may hold when all copies have lost power after these operations, by the definition. */
export function afterPowerCut(operations: readonly SectorOperation[]): Set<number> {
  const allowed = new Set<number>();
  someOrder(operations, (order) => {
    const writes = order.filter(({ isRead }) => !isRead);
    const last = writes.findLastIndex(({ durable }) => durable);
    if (last < 0) allowed.add(0);
    for (const { value } of writes.slice(Math.max(0, last))) allowed.add(value);
    // What nobody has seen may have been on a copy while it was under way, whatever the order of the others.
    const lastDurable = lastOfDurable(order);
    for (const each of operations) {
      if (each.isRead || each.good || order.includes(each)) continue;
      const limit = order.findIndex((other) => isBefore(each, other));
      if (limit < 0 || limit > lastDurable) allowed.add(each.value);
    }
    return false;
  });
  return allowed;
}
