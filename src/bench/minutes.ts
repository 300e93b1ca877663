/** Rows of a minute for people: the plot of what happened in each second, and what is computed of it. */

import type { Course } from './fio.js';
import { median } from './statistics.js';

const WIDTH = 560;
const HEIGHT = 160;
const LEFT = 70;
const COLOURS = { requests: '#c2410c', deviceOperations: '#0369a1' } as const;
/** A second counts as a hole if it has fewer requests than this share of what half of the seconds have. */
const HOLE_SHARE = 0.25;

/** Seconds in which less than a quarter of the median of all was answered. */
export function holesOf({ requests }: Course): number {
  const least = median(requests) * HOLE_SHARE;
  return requests.filter((count) => count < least).length;
}

function line(values: readonly number[], most: number, colour: string): string {
  const step = WIDTH / Math.max(1, values.length - 1);
  const points = values.map(
    (value, second) => `${(LEFT + second * step).toFixed(1)},${(HEIGHT - (value / most) * HEIGHT).toFixed(1)}`,
  );
  return `<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${points.join(' ')}"/>`;
}

/** An SVG with a line for the requests and, where they are known, one for the operations of devices, by second. */
export function plotCourse({ requests, deviceOperations }: Course): string {
  const most = Math.max(1, ...requests, ...deviceOperations);
  const base = HEIGHT + 16;
  const known = deviceOperations.length > 0;
  return (
    `<svg viewBox="0 0 640 ${HEIGHT + 40}" width="640" height="${HEIGHT + 40}">` +
    `<text x="${LEFT - 6}" y="12" text-anchor="end">${Math.round(most).toLocaleString('en-US')}</text>` +
    `<text x="${LEFT - 6}" y="${HEIGHT}" text-anchor="end">0</text>` +
    `<line x1="${LEFT}" y1="${HEIGHT}" x2="${LEFT + WIDTH}" y2="${HEIGHT}" stroke="#999"/>` +
    line(requests, most, COLOURS.requests) +
    (known ? line(deviceOperations, most, COLOURS.deviceOperations) : '') +
    `<text x="${LEFT}" y="${base}">0 s</text>` +
    `<text x="${LEFT + WIDTH}" y="${base}" text-anchor="end">${requests.length} s</text>` +
    `<text x="${LEFT}" y="${base + 18}" fill="${COLOURS.requests}">requests per second</text>` +
    (known
      ? `<text x="${LEFT + 180}" y="${base + 18}" fill="${COLOURS.deviceOperations}">device operations per second</text>`
      : '') +
    '</svg>'
  );
}
