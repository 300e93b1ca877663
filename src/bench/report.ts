/** A bench's result for people: text, Markdown with the numbers, and one HTML page with plots. */

import { formatBytes } from '../core/units.js';
import type { Figure } from './figures.js';
import { holesOf, plotCourse } from './minutes.js';
import type { BenchResult, RowResult } from './run.js';
import { median } from './statistics.js';

const COLOURS: Record<string, string> = {
  strake: '#c2410c',
  fio: '#64748b',
  'qemu-nbd': '#0f766e',
  nbdkit: '#4338ca',
  raw: '#64748b',
  overwrite: '#0369a1',
  warm: '#0369a1',
  inside: '#0f766e',
  file: '#0f766e',
  one: '#64748b',
  device: '#64748b',
  alone: '#64748b',
};

function number(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString('en-US');
  return value.toPrecision(3);
}

function ratioText(row: RowResult, rival: string): string {
  const { median, min, max } = row.ratios[rival];
  return `${median.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})`;
}

/** The rivals that appear in any row, in a fixed order. */
function rivalsOf(result: BenchResult): string[] {
  const present = new Set(result.rows.flatMap(({ rivals }) => Object.keys(rivals)));
  return Object.keys(COLOURS).filter((name) => present.has(name));
}

function describe(result: BenchResult): string {
  const { machine, rounds, seconds, sizeBytes, failed } = result;
  const missing = failed.length === 0 ? '' : ` Failed, and not measured: ${failed.map(({ id }) => id).join(', ')}.`;
  const processor = `${machine.processor.trim()}, ${machine.cores} cores, ${formatBytes(machine.memoryBytes)}`;
  const versions = `Linux ${machine.kernel}, Node.js ${machine.node}, Strake ${machine.strake}`;
  return `${result.time}. ${processor}, ${versions}. Medians of ${rounds} rounds of ${seconds} s on ${formatBytes(sizeBytes)}.${missing}`;
}

/** A part of a report: rows that are compared with the same. */
interface Section {
  readonly title: string;
  readonly result: BenchResult;
}

/** Which rows belong to which part, by the first part of their names. */
const SECTIONS: readonly { readonly title: string; readonly targets: readonly string[] }[] = [
  { title: 'Raw and null devices', targets: ['device', 'nbd', 'nbd-tcp', 'loop', 'null'] },
  { title: 'Volumes over NBD', targets: ['volume', 'mirror2'] },
  { title: 'Mirrors over two processes, and two shards', targets: ['cluster'] },
  {
    title: 'Opening, recovery and jobs',
    targets: ['open', 'open-million', 'idle', 'recovery', 'scrub', 'rebuild', 'jobs', 'start'],
  },
];

/** The parts of a result that have rows. */
function sections(result: BenchResult): Section[] {
  return SECTIONS.map(({ title, targets }) => {
    const rows = result.rows.filter(({ id }) => targets.includes(id.split('.')[0]));
    return { title, result: { ...result, rows } };
  }).filter((section) => section.result.rows.length > 0);
}

/** The numbers as a Markdown table. */
export function markdownRows(result: BenchResult): string {
  const rivals = rivalsOf(result);
  const header = ['row', 'unit', 'Strake', ...rivals.flatMap((name) => [name, `Strake : ${name}`])];
  const lines = result.rows.map((row) => {
    const cells = rivals.flatMap((name) =>
      row.rivals[name] === undefined ? ['–', '–'] : [number(row.rivals[name]), ratioText(row, name)],
    );
    return [`\`${row.id}\``, row.unit, number(row.strake), ...cells];
  });
  return [header, header.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function hasCosts({ result }: Section): boolean {
  return result.rows.some(({ latencyUsMean }) => latencyUsMean.strake !== undefined);
}

function markdownCosts(all: BenchResult): string {
  const result = { ...all, rows: all.rows.filter(({ latencyUsMean }) => latencyUsMean.strake !== undefined) };
  const parties = ['strake', ...rivalsOf(result)];
  const given = parties.filter((name) =>
    result.rows.some(({ deviceOperations }) => deviceOperations[name] !== undefined),
  );
  const header = [
    'row',
    ...parties.map((name) => `${name} µs`),
    ...parties.map((name) => `${name} CPU µs/op`),
    ...given.map((name) => `${name} device operations/op`),
  ];
  const lines = result.rows.map((row) => [
    `\`${row.id}\``,
    ...parties.map((name) => (row.latencyUsMean[name] === undefined ? '–' : number(row.latencyUsMean[name]))),
    ...parties.map((name) => (row.cpuUsPerOperation[name] === undefined ? '–' : number(row.cpuUsPerOperation[name]))),
    ...given.map((name) => (row.deviceOperations[name] === undefined ? '–' : number(row.deviceOperations[name]))),
  ]);
  return [header, header.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** Of which shares of requests the report tells how long they took at most. */
const PERCENTILES = ['latencyUsP50', 'latencyUsP99', 'latencyUsP999'] as const;

/** One line for each row: p50, p99 and p99.9 of every party. */
function markdownLatencies(all: BenchResult): string {
  const result = { ...all, rows: all.rows.filter(({ latencyUsP50 }) => latencyUsP50.strake !== undefined) };
  const parties = ['strake', ...rivalsOf(result)];
  const lines = result.rows.map((row) => {
    const cells = parties.map((name) =>
      row.latencyUsP50[name] === undefined ? '–' : PERCENTILES.map((key) => number(row[key][name])).join(' / '),
    );
    return [`\`${row.id}\``, ...cells];
  });
  const header = ['row', ...parties];
  return [header, header.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function verdict({ met }: Figure): string {
  if (met === null) return 'not measured';
  return met ? 'met' : 'missed';
}

function markdownFigures(figures: readonly Figure[]): string {
  const lines = figures.map((one) => [
    one.name,
    one.value === null ? '–' : one.value.toFixed(3),
    `${one.bound.kind === 'min' ? '≥' : '≤'} ${one.bound.value}`,
    verdict(one),
  ]);
  const header = ['figure', 'measured', 'bound', 'verdict'];
  return [header, header.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

const REMARKS = `Every party is a process of its own and uses direct I/O, with one exception: nbdkit's \`cache=none\` goes through the
page cache, so it acknowledges writes before they reach the device. Parties take turns within each round, in rotating
order and on rotating files; ratios are taken round by round. \`fio\` on \`nbd\` rows is fio on the file itself, without a
server: it is what the storage gives, and no server can be much faster. Absolute numbers of a shared machine mean little.

Rows of volumes: \`raw\` is Strake's export of a file without a volume, \`overwrite\` the same writes where something
has been written before, \`warm\` the same reads where all tables are in memory. A mirror writes both copies to the same disk.
Rows \`cluster\`: a mirror whose copies are in two processes, \`inside\` the same in one, and \`fio\` two jobs at once on the two
files, of which what is written counts once. Rows \`cluster.shards\`: four devices on two shards, and on \`one\`; what is written to
their slots counts as done, and is lost, so that no disk is measured.
Of jobs, \`device\` is what fio reads, or reads and writes at the same time, in the same round, and \`alone\` are the same
clients without the job; of times, memory and \`p99\` less is better.`;

/** A line for each party of a row of a minute. */
function markdownMinutes({ rows }: BenchResult): string {
  const lines = rows.flatMap(({ id, courses }) =>
    Object.entries(courses).map(([party, course]) => {
      const { requests } = course;
      const slowest = requests.indexOf(Math.min(...requests));
      return [
        `\`${id}\``,
        party,
        number(median(requests)),
        number(requests[slowest]),
        `${slowest + 1}`,
        `${holesOf(course)}`,
      ];
    }),
  );
  if (lines.length === 0) return '';
  const header = ['row', 'party', 'median second', 'slowest second', 'which', 'seconds below a quarter of the median'];
  return [header, header.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

const LATENCY_REMARK =
  'Medians of the rounds. Of a row that reads and writes they are those of the slower of both; flushes are not among them.';

/** The whole report as Markdown. */
export function markdownReport(result: BenchResult, figures: readonly Figure[]): string {
  return [
    '# Strake bench',
    describe(result),
    REMARKS,
    ...sections(result).flatMap(({ title, result: part }) => [`## ${title}`, markdownRows(part)]),
    '## Mean latency and processor time per operation',
    'Processor time is that of the server; for `fio`, and for `device` rows, of the process that drives the device. ' +
      'Device operations are those that the server gives to its devices, flushes among them, for each request of a client.',
    ...sections(result)
      .filter(hasCosts)
      .map(({ result: part }) => markdownCosts(part)),
    '## Latency: p50 / p99 / p99.9 in microseconds',
    LATENCY_REMARK,
    ...sections(result)
      .filter(hasCosts)
      .map(({ result: part }) => markdownLatencies(part)),
    ...[markdownMinutes(result)].filter((text) => text !== '').map((text) => `## Minutes\n\n${text}`),
    '## Figures',
    markdownFigures(figures),
    '',
  ].join('\n\n');
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** Bars of one row: the medians, with a line from the lowest to the highest round. */
function plotRow(row: RowResult): string {
  const parties = Object.keys(COLOURS).filter((name) => row.spreads[name] !== undefined);
  const most = Math.max(...parties.map((name) => row.spreads[name].max));
  const scale = 420 / most;
  const bars = parties.map((name, index) => {
    const { median, min, max } = row.spreads[name];
    const y = index * 20;
    return (
      `<text x="84" y="${y + 13}" text-anchor="end">${escapeHtml(name)}</text>` +
      `<rect x="90" y="${y + 2}" width="${(median * scale).toFixed(1)}" height="14" fill="${COLOURS[name]}"/>` +
      `<line x1="${(90 + min * scale).toFixed(1)}" x2="${(90 + max * scale).toFixed(1)}" y1="${y + 9}" y2="${y + 9}" ` +
      'stroke="#111" stroke-width="1"/>' +
      `<text x="${(96 + max * scale).toFixed(1)}" y="${y + 13}">${number(median)} ${row.unit}</text>`
    );
  });
  return `<figure><figcaption>${escapeHtml(row.id)}</figcaption>
<svg viewBox="0 0 640 ${parties.length * 20}" width="640" height="${parties.length * 20}">${bars.join('')}</svg></figure>`;
}

function htmlTable(markdown: string): string {
  const rows = markdown.split('\n').filter((line) => !/^\| ---/.test(line));
  const cells = rows.map((line) => line.slice(2, -2).split(' | '));
  const line = (tag: string) => (row: readonly string[]) =>
    `<tr>${row.map((cell) => `<${tag}>${escapeHtml(cell.replace(/`/g, ''))}</${tag}>`).join('')}</tr>`;
  return `<table>${line('th')(cells[0])}${cells.slice(1).map(line('td')).join('')}</table>`;
}

/** The plots of rows of a minute, if there are any. */
function htmlMinutes(result: BenchResult): string {
  const table = markdownMinutes(result);
  if (table === '') return '';
  const plots = result.rows.flatMap(({ id, courses }) =>
    Object.entries(courses).map(
      ([party, course]) =>
        `<figure><figcaption>${escapeHtml(`${id} ${party}`)}</figcaption>\n${plotCourse(course)}</figure>`,
    ),
  );
  return `<h2>Minutes</h2>\n${plots.join('\n')}\n${htmlTable(table)}\n`;
}

function htmlSection({ title, result }: Section): string {
  const plots = result.rows.map(plotRow).join('\n');
  return `<h2>${escapeHtml(title)}</h2>\n${plots}\n${htmlTable(markdownRows(result))}`;
}

/** The whole report as one HTML page without anything from elsewhere. */
export function htmlReport(result: BenchResult, figures: readonly Figure[]): string {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Strake bench</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; color: #111; }
svg { font: 12px system-ui, sans-serif; }
figure { display: inline-block; margin: 0 1em 1em 0; }
figcaption { font-weight: 600; font-family: ui-monospace, monospace; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: 2px 8px; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child { text-align: left; font-family: ui-monospace, monospace; }
</style>
<h1>Strake bench</h1>
<p>${escapeHtml(describe(result))}</p>
<p>${escapeHtml(REMARKS.replace(/`/g, ''))}</p>
<p>Bars are medians; the line through a bar goes from the lowest to the highest round.</p>
${sections(result).map(htmlSection).join('\n')}
<h2>Mean latency and processor time per operation</h2>
${sections(result)
  .filter(hasCosts)
  .map(({ result: part }) => htmlTable(markdownCosts(part)))
  .join('\n')}
<h2>Latency: p50 / p99 / p99.9 in microseconds</h2>
<p>${LATENCY_REMARK}</p>
${sections(result)
  .filter(hasCosts)
  .map(({ result: part }) => htmlTable(markdownLatencies(part)))
  .join('\n')}
${htmlMinutes(result)}<h2>Figures</h2>
${htmlTable(markdownFigures(figures))}
</html>
`;
}

/** The numbers for a terminal, as a table for each part of the report. */
export function terminalTables(result: BenchResult): { header: string[]; rows: string[][] }[] {
  return sections(result).map((section) => terminalRows(section.result));
}

/** The numbers for a terminal: header and rows of a table. */
export function terminalRows(result: BenchResult): { header: string[]; rows: string[][] } {
  const rivals = rivalsOf(result);
  const header = ['row', 'unit', 'strake', ...rivals, ...rivals.map((name) => `: ${name}`)];
  const rows = result.rows.map((row) => [
    row.id,
    row.unit,
    number(row.strake),
    ...rivals.map((name) => (row.rivals[name] === undefined ? '–' : number(row.rivals[name]))),
    ...rivals.map((name) => (row.ratios[name] === undefined ? '–' : row.ratios[name].median.toFixed(2))),
  ]);
  return { header, rows };
}
