/** Circles of files that import each other, for types too: sets in which each file reaches each other one (Tarjan 1972). */

import { dirname, join } from 'node:path';

function* importsOf(text) {
  for (const match of text.matchAll(/(?:from|import|import\()\s*'(\.[^']+)'/g)) yield match[1];
}

/** The files that each imports. `texts`: by path; those of `.ts` files are imported as `.js`. */
function graphOf(texts) {
  const graph = new Map();
  for (const [path, text] of texts) {
    const targets = [...importsOf(text)].map((target) => join(dirname(path), target).replace(/\.js$/, '.ts'));
    graph.set(path, [...new Set(targets)].filter((target) => texts.has(target)).sort());
  }
  return graph;
}

/** All circles, as sorted lists of paths. */
export function circlesOf(texts) {
  const graph = graphOf(texts);
  const [numbers, lows, stack, circles] = [new Map(), new Map(), [], []];
  const visit = (path) => {
    numbers.set(path, numbers.size);
    lows.set(path, numbers.get(path));
    stack.push(path);
    for (const target of graph.get(path)) {
      if (!numbers.has(target)) visit(target);
      if (stack.includes(target)) lows.set(path, Math.min(lows.get(path), lows.get(target)));
    }
    if (lows.get(path) !== numbers.get(path)) return;
    const circle = stack.splice(stack.indexOf(path));
    if (circle.length > 1) circles.push(circle.sort());
  };
  for (const path of graph.keys()) if (!numbers.has(path)) visit(path);
  return circles;
}
