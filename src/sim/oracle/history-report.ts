/** What is known of a sector, and what is wrong with what was found there, as text for people. */

import type { BlockCheck } from './block-check.js';
import { KIND_TRIM, type Operations, STATE_ACKNOWLEDGED, STATE_FAILED, STATE_PENDING } from './operations.js';
import { BLOCK_SECTORS, VERSION_INITIAL, VERSION_OPEN_READ, VERSION_READ, type Versions } from './versions.js';

/** What was found contradicts what a volume promises. The message tells all that is known. */
export class HistoryViolation extends Error {
  /** The value found, `GARBAGE`, or undefined if the violation is of an order and not of one read. */
  constructor(
    message: string,
    readonly sector: number,
    readonly value: number | undefined,
  ) {
    super(message);
    this.name = 'HistoryViolation';
  }
}

export class HistoryReport {
  private readonly operations: Operations;
  private readonly versions: Versions;
  private readonly checks: BlockCheck;

  constructor(operations: Operations, versions: Versions, checks: BlockCheck) {
    this.operations = operations;
    this.versions = versions;
    this.checks = checks;
  }

  /** `what`: what was found, by whom. `found`: its value. */
  violation(what: string, sector: number, found: number | undefined): HistoryViolation {
    const lines = [`sector ${sector}: ${what}`];
    if (found !== undefined && found > 0) lines.push(`  found: ${this.written(found, sector)}`);
    return new HistoryViolation([...lines, ...this.known(sector)].join('\n'), sector, found);
  }

  /** The two clusters of a register that contradict each other. */
  contradiction(sector: number): HistoryViolation {
    const { register } = this.checks;
    const { one, other } = register;
    if (one < 0) {
      return this.violation('reads of zeroes fit none of the writes of zeroes', sector, undefined);
    }
    const [held, broken] = [register.ids[one], register.ids[other]];
    const from = instant(register.ends[one]);
    const until = instant(register.starts[one]);
    const zone = [instant(register.starts[other]), instant(register.ends[other])];
    const another =
      register.ends[other] < register.starts[other]
        ? `so was ${this.name(broken)} from ${zone[1]} to ${zone[0]}`
        : `${this.name(broken)} took effect between ${zone[0]} and ${zone[1]}`;
    return this.violation(`${this.name(held)} was there from ${from} to ${until}, but ${another}`, sector, undefined);
  }

  /** Lines on all versions of a sector, and on what each of them may still do at `now`. */
  known(sector: number): string[] {
    const { checks, versions } = this;
    const block = Math.floor(sector / BLOCK_SECTORS);
    const bit = sector % BLOCK_SECTORS;
    if (versions.head[block] < 0) return [`  allowed: ${nameOf(versions.settled[sector])}, which is durable`];
    checks.gather(block, checks.groupOf(bit, checks.divide(block)));
    const agrees = checks.register.check();
    const lines: string[] = [];
    for (let version = versions.head[block]; version >= 0; version = versions.next[version]) {
      if (((versions.mask[version] >> bit) & 1) === 0) continue;
      if ((versions.flags[version] & VERSION_OPEN_READ) !== 0) lines.push(`  ${this.openRead(version)}`);
      else lines.push(`  ${this.history(version)}${agrees ? `: ${this.verdict(version)}` : ''}`);
    }
    return lines;
  }

  private openRead(version: number): string {
    const { end, start, value } = this.versions;
    return `${nameOf(value[version])} read between ${instant(start[version])} and ${instant(end[version])}`;
  }

  private name(version: number): string {
    return nameOf(this.versions.value[version]);
  }

  private history(version: number): string {
    const { flags, operation, start, value } = this.versions;
    const parts: string[] = [];
    const writer = operation[version] >= 0 ? operation[version] : this.operations.find(value[version]);
    if (writer >= 0) parts.push(this.course(writer));
    if ((flags[version] & VERSION_INITIAL) !== 0) parts.push('there initially');
    if ((flags[version] & VERSION_READ) !== 0 && start[version] > 0) {
      parts.push(`still there at ${instant(start[version])}`);
    }
    if (this.checks.outlives(version)) parts.push('durable');
    return `${this.name(version)} (${parts.join(', ')})`;
  }

  private course(operation: number): string {
    const { answered, began, count, crossed, ended, kind, sector, state } = this.operations;
    const last = sector[operation] + count[operation] - 1;
    const trim = kind[operation] === KIND_TRIM ? 'trim of ' : '';
    const range = `${trim}sectors ${sector[operation]} to ${last}, begun ${instant(began[operation])}`;
    if (state[operation] === STATE_PENDING) return `${range}, under way`;
    if (crossed[operation] === 1) return `${range}, answered ${instant(answered[operation])} after power was lost`;
    if (state[operation] === STATE_ACKNOWLEDGED) return `${range}, acknowledged ${instant(answered[operation])}`;
    if (state[operation] === STATE_FAILED) return `${range}, failed ${instant(answered[operation])}`;
    return `${range}, unanswered at the death of the process ${instant(ended[operation])}`;
  }

  /** What a version that the register holds may still do, and why. */
  private verdict(version: number): string {
    const { register } = this.checks;
    const at = register.ids.indexOf(version);
    for (let other = 0; other < register.count; other += 1) {
      const visible = register.happened[other] === 1 && register.ends[other] < Number.POSITIVE_INFINITY;
      if (other === at || !visible || register.ends[at] >= register.earliestEffect(other)) continue;
      const durable = this.checks.outlives(register.ids[other]);
      const after = durable ? '' : ', unless power fails';
      return `not allowed, overwritten by ${this.name(register.ids[other])}${after}`;
    }
    return 'allowed';
  }

  /** When a value was written, as far as that is still known, and why it cannot be here. */
  private written(value: number, sector: number): string {
    const operation = this.operations.find(value);
    if (operation < 0) return `write ${value} is not known: never begun, or long ago`;
    const first = this.operations.sector[operation];
    const isHere = sector >= first && sector < first + this.operations.count[operation];
    const why = isHere ? 'since overwritten by what is durable' : 'which this sector is none of';
    return `write ${value}: ${this.course(operation)}; ${why}`;
  }
}

function nameOf(value: number): string {
  return value === 0 ? 'zeroes' : `write ${value}`;
}

function instant(time: number): string {
  if (time === Number.NEGATIVE_INFINITY) return 'the beginning';
  return time === Number.POSITIVE_INFINITY ? 'now' : `${Math.floor(time)} µs`;
}
