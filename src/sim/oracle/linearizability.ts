/**
 * Whether what was read of a register can be explained by its operations taking effect one by one, each between its
 * beginning and its end.
 *
 * It is the zone test for unique values of Gibbons and Korach ("Testing shared memories", SIAM Journal on Computing 26(4),
 * 1997): a write and the reads that saw it are a *cluster*, whose zone lies between the earliest end and the latest start of
 * any of its operations.
 *
 * ```text
 *   earliest end < latest start: the register held the value all that time     |──forward──|
 *   latest start < earliest end: its operations have this time in common, so they fit into any instant of it  ·backward·
 * ```
 *
 * There is an order of effects if and only if no two forward zones overlap, no backward zone lies within a forward one, and
 * nothing was read before its write began. That takes O(n log n).
 *
 * Values that several writes share, which only zeroes do, leave it open whose cluster a read belongs to. Such reads are
 * attributed by trying, which is exact; as zones only get worse, what fails once is not tried further. Where that takes
 * too long the answer is yes, and counted.
 */

/** Zone tests for the attribution of one register's reads. */
const TESTS_MAX = 20_000;
const CAPACITY = 64;

export class Register {
  count = 0;
  /** What the caller calls each cluster. */
  ids = new Int32Array(CAPACITY);
  values = new Int32Array(CAPACITY);
  /** When its write began. */
  begins = new Float64Array(CAPACITY);
  /** Latest start of its operations. */
  starts = new Float64Array(CAPACITY);
  /** Earliest end of its operations. */
  ends = new Float64Array(CAPACITY);
  /** Whether its write is known to have taken effect; other clusters are one write, which may never have done anything. */
  happened = new Uint8Array(CAPACITY);

  readCount = 0;
  /** Reads of values that are those of several clusters. */
  readValues = new Int32Array(CAPACITY);
  readStarts = new Float64Array(CAPACITY);
  readEnds = new Float64Array(CAPACITY);

  /** Positions of two clusters that contradict each other, after a check that failed; -1 if it is not as simple. */
  one = -1;
  other = -1;
  /** Checks that were given up. */
  undecided = 0;

  private forward = new Int32Array(CAPACITY);
  private forwardCount = 0;
  private tests = 0;

  clear(): void {
    this.count = 0;
    this.readCount = 0;
  }

  /** Adds a cluster, the newest first. */
  add(id: number, value: number, begin: number, start: number, end: number, happened: boolean): void {
    const at = this.count;
    if (at === this.ids.length) this.grow();
    this.count = at + 1;
    this.ids[at] = id;
    this.values[at] = value;
    this.begins[at] = begin;
    this.starts[at] = start;
    this.ends[at] = end;
    this.happened[at] = happened ? 1 : 0;
  }

  addRead(value: number, start: number, end: number): void {
    const at = this.readCount;
    if (at === this.readValues.length) this.growReads();
    this.readCount = at + 1;
    this.readValues[at] = value;
    this.readStarts[at] = start;
    this.readEnds[at] = end;
  }

  /** Whether there is an order of effects. */
  check(): boolean {
    if (!this.zonesAgree()) return false;
    if (this.readCount === 0) return true;
    this.tests = 0;
    const possible = this.attribute(0);
    // Zones without the reads that could have been attributed in another way.
    this.zonesAgree();
    if (!possible) {
      this.one = -1;
      this.other = -1;
    }
    return possible;
  }

  /** After a check: clusters whose earliest end is before this come before the cluster in every order of effects. */
  earliestEffect(at: number): number {
    const start = this.starts[at];
    if (this.ends[at] < start) return start;
    const zone = this.zoneAround(start);
    return zone < 0 ? start : this.starts[zone];
  }

  private zonesAgree(): boolean {
    this.sortForward();
    const { forward, forwardCount, starts, ends, happened, count } = this;
    for (let index = 1; index < forwardCount; index += 1) {
      if (ends[forward[index]] < starts[forward[index - 1]]) return this.contradict(forward[index - 1], forward[index]);
    }
    if (forwardCount === 0) return true;
    for (let at = 0; at < count; at += 1) {
      if (happened[at] === 0 || ends[at] < starts[at]) continue;
      const zone = this.zoneAround(starts[at]);
      if (zone >= 0 && ends[at] < starts[zone]) return this.contradict(zone, at);
    }
    return true;
  }

  private contradict(one: number, other: number): boolean {
    this.one = one;
    this.other = other;
    return false;
  }

  /** Forward zones by their earliest end. They are few and nearly in order. */
  private sortForward(): void {
    const { forward, starts, ends, happened, count } = this;
    let sorted = 0;
    // The caller adds the newest first.
    for (let at = count - 1; at >= 0; at -= 1) {
      const end = ends[at];
      if (happened[at] === 0 || end >= starts[at]) continue;
      let place = sorted;
      if (place > 0 && ends[forward[place - 1]] > end) {
        place = this.placeOf(end, sorted);
        forward.copyWithin(place + 1, place, sorted);
      }
      forward[place] = at;
      sorted += 1;
    }
    this.forwardCount = sorted;
  }

  /** How many of the first `count` forward zones have their earliest end before `instant`. */
  private placeOf(instant: number, count: number): number {
    const { forward, ends } = this;
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ends[forward[middle]] < instant) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The forward zone that has this instant inside of it, or -1. */
  private zoneAround(instant: number): number {
    const place = this.placeOf(instant, this.forwardCount);
    if (place === 0) return -1;
    const zone = this.forward[place - 1];
    return instant < this.starts[zone] ? zone : -1;
  }

  private attribute(read: number): boolean {
    if (read === this.readCount) return true;
    const { readValues, readStarts, readEnds, values, begins, starts, ends, happened } = this;
    // Newest first: that is where most of them belong.
    for (let at = 0; at < this.count; at += 1) {
      if (values[at] !== readValues[read] || begins[at] > readEnds[read]) continue;
      this.tests += 1;
      if (this.tests > TESTS_MAX) {
        if (this.tests === TESTS_MAX + 1) this.undecided += 1;
        return true;
      }
      const [start, end, before] = [starts[at], ends[at], happened[at]];
      starts[at] = Math.max(start, readStarts[read]);
      ends[at] = Math.min(end, readEnds[read]);
      happened[at] = 1;
      const possible = this.zonesAgree() && this.attribute(read + 1);
      starts[at] = start;
      ends[at] = end;
      happened[at] = before;
      if (possible) return true;
    }
    return false;
  }

  private grow(): void {
    const length = 2 * this.ids.length;
    this.ids = larger(this.ids, new Int32Array(length));
    this.values = larger(this.values, new Int32Array(length));
    this.forward = larger(this.forward, new Int32Array(length));
    this.begins = larger(this.begins, new Float64Array(length));
    this.starts = larger(this.starts, new Float64Array(length));
    this.ends = larger(this.ends, new Float64Array(length));
    this.happened = larger(this.happened, new Uint8Array(length));
  }

  private growReads(): void {
    const length = 2 * this.readValues.length;
    this.readValues = larger(this.readValues, new Int32Array(length));
    this.readStarts = larger(this.readStarts, new Float64Array(length));
    this.readEnds = larger(this.readEnds, new Float64Array(length));
  }
}

/** `to`, with the content of `from` at its beginning. */
export function larger<Numbers extends Int32Array | Float64Array | Uint8Array>(from: Numbers, to: Numbers): Numbers {
  to.set(from);
  return to;
}
