/** The rooms that `docs/architecture.md` names are there, and the walks through them name functions that these files have. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { project } from '../support/scratch.js';

const PAGE = readFileSync(join(project, 'docs', 'architecture.md'), 'utf8');

/** The lines of a section, up to the next heading of its depth or a higher one. */
function section(heading: string): string[] {
  const lines = PAGE.split('\n');
  const start = lines.indexOf(heading);
  assert.ok(start >= 0, `docs/architecture.md has no section "${heading}"`);
  const depth = heading.indexOf(' ');
  const end = lines.findIndex((line, at) => at > start && /^#+ /.test(line) && line.indexOf(' ') <= depth);
  return lines.slice(start + 1, end);
}

/** Cells of the rows of tables: the first two lines of a table are no rows. */
function rows(lines: readonly string[]): string[][] {
  return lines
    .filter((line) => /^\| (?!---)/.test(line))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    );
}

function pathOf(room: string): string {
  return room.startsWith('crates/') ? join(project, room) : join(project, 'src', room);
}

const named = (text: string) => [...text.matchAll(/`([a-z][\w./-]*\.(?:ts|rs))`/g)].map(([, room]) => room);

check('each room that is named is there', () => {
  const rooms = section('## Rooms').flatMap((line) => (line.startsWith('|') ? named(line) : []));
  assert.ok(rooms.length > 80, `${rooms.length} rooms`);
  const missing = rooms.filter((room) => !existsSync(pathOf(room)));
  assert.equal(missing, [], 'what has moved has to be named where it is now');
});

for (const walk of ['### One write through the rooms', '### One flush through the rooms']) {
  check(`${walk.slice(4)}: each function is in its room`, () => {
    const steps = rows(section(walk)).filter(([number]) => /^\d+$/.test(number));
    assert.ok(steps.length > 10);
    for (const [index, [number, room, name]] of steps.entries()) {
      assert.is(Number(number), index + 1);
      const [path] = named(room);
      const text = readFileSync(pathOf(path), 'utf8');
      const method = new RegExp(`^ +(?:protected |private )?(?:async )?${name.replaceAll('`', '')}\\(`, 'm');
      assert.match(text, method, `${path} has no function ${name}`);
    }
  });
}

run();
