/** What a run of tests tells: a line for each part as it ends, then what took long, what was skipped, and the sums. */

const SLOWEST = 10;

const seconds = (value) => value.toFixed(1);

export class Report {
  /** Whether a skipped test counts as a failure. */
  everything;
  passed = 0;
  failed = 0;
  skipped = [];
  files = [];
  parts = [];

  constructor(everything) {
    this.everything = everything;
  }

  /** Counts a part that has ended, and prints its line; its output only if something failed. */
  add({ name, passed, failed, seconds: took, processor, output }) {
    this.passed += passed;
    this.failed += failed;
    const verdict = failed === 0 ? 'ok  ' : 'FAIL';
    const used = processor === undefined ? '' : `, processor ${seconds(processor)} s`;
    const lines = [`${verdict}  ${name}  ${passed} passed, ${failed} failed  (${seconds(took)} s${used})`];
    if (failed > 0) lines.push(output.trimEnd().replace(/^/gm, '      '));
    console.log(lines.join('\n'));
  }

  /** The same for a file of tests. */
  addFile(result) {
    this.files.push(result);
    this.add(result);
  }

  skip(name, reason) {
    this.skipped.push(`${name}: ${reason}`);
    if (this.everything) this.failed += 1;
  }

  /** Runs a part, and remembers how long it took. */
  async part(name, body) {
    const started = performance.now();
    const result = await body();
    this.parts.push(`${name} ${seconds((performance.now() - started) / 1000)} s`);
    return result;
  }

  /** Prints what is left to tell. The last line is 'N passed, N failed'. Returns the exit code. */
  end() {
    if (this.files.length > 1) this.printSlowest();
    const all = seconds(performance.now() / 1000);
    console.log(`time: ${[...this.parts, `all ${all} s`].join(', ')}`);
    for (const line of this.skipped) console.log(`skipped${this.everything ? ' (counts as failed)' : ''}: ${line}`);
    console.log(`${this.passed} passed, ${this.failed} failed`);
    return this.failed === 0 && this.passed > 0 ? 0 : 1;
  }

  printSlowest() {
    const slowest = this.files.toSorted((one, other) => other.seconds - one.seconds).slice(0, SLOWEST);
    console.log(`slowest of ${this.files.length} files, in seconds, and seconds of the processor:`);
    for (const { name, seconds: took, processor } of slowest) {
      const used = processor === undefined ? '?' : seconds(processor);
      console.log(`  ${seconds(took).padStart(6)}  ${used.padStart(6)}  ${name}`);
    }
    const sum = this.files.reduce((total, { processor }) => total + (processor ?? 0), 0);
    console.log(`  all files together: ${seconds(sum)} s of the processor`);
  }
}
