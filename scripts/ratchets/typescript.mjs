/** Functions of a TypeScript file: their lengths, the numbers of their parameters, and whether others may put one in their place. */

import { parse } from '@babel/parser';

const FUNCTIONS = new Set([
  'FunctionDeclaration',
  'FunctionExpression',
  'ArrowFunctionExpression',
  'ObjectMethod',
  'ClassMethod',
  'ClassPrivateMethod',
  'TSDeclareFunction',
  'TSDeclareMethod',
  'TSMethodSignature',
]);
/** Nodes that give what is in them a name to be found by. */
const NAMED = new Set([
  'ClassDeclaration',
  'TSInterfaceDeclaration',
  'VariableDeclarator',
  'ClassProperty',
  'ObjectProperty',
]);

function nameOf(node) {
  const key = node.id ?? node.key;
  return key?.name ?? key?.value ?? key?.id?.name;
}

/** Whether a node is the first value of a field that anybody may set: whoever forgets to is not told. */
function isReplaceable(node, parent) {
  if (parent?.type !== 'ClassProperty' || parent.value !== node) return false;
  return parent.readonly !== true && parent.accessibility !== 'private';
}

function* walk(node, path, parent) {
  const own = FUNCTIONS.has(node.type) || NAMED.has(node.type) ? nameOf(node) : undefined;
  const names = own === undefined ? path : [...path, String(own)];
  if (FUNCTIONS.has(node.type)) {
    const parameters = (node.params ?? node.parameters).filter(({ name }) => name !== 'this').length;
    const { start, end } = node.loc;
    yield {
      name: names.join('.') || 'a function without a name',
      line: start.line,
      lines: end.line - start.line + 1,
      parameters,
      replaceable: isReplaceable(node, parent),
    };
  }
  for (const [key, child] of Object.entries(node)) {
    if (key === 'loc' || key.endsWith('Comments')) continue;
    for (const each of Array.isArray(child) ? child : [child]) {
      if (typeof each?.type === 'string') yield* walk(each, names, node);
    }
  }
}

/** Each with its name within the file, its first line, its length in lines from there to its end, its parameters, and whether it is to be replaced. */
export function functionsOf(text) {
  const { program } = parse(text, { sourceType: 'module', plugins: ['typescript'] });
  return [...walk(program, [])];
}
