/** Functions of a Rust file: their lengths and the numbers of their parameters, by a scan that knows comments, texts and brackets. */

/** What is no code: comments, which may be nested, texts, raw ones too, and characters, but no lifetimes. */
const NO_CODE = /\/\/[^\n]*|\/\*|b?r(#*)"[\s\S]*?"\1|b?"(?:\\[\s\S]|[^"\\])*"|b?'(?:\\[^\n]{1,10}?|[^'\\\n])'/g;
const OPEN = '([{<';
const CLOSE = ')]}>';

function blank(text) {
  return text.replace(/[^\n]/g, ' ');
}

/** The end of a comment that may hold others. */
function endOfComment(text, start) {
  const marks = /\/\*|\*\//g;
  marks.lastIndex = start;
  let depth = 0;
  for (let mark = marks.exec(text); mark !== null; mark = marks.exec(text)) {
    depth += mark[0] === '/*' ? 1 : -1;
    if (depth === 0) return marks.lastIndex;
  }
  return text.length;
}

/** The text with spaces in the place of what is no code. */
export function codeOf(text) {
  let code = '';
  let at = 0;
  NO_CODE.lastIndex = 0;
  for (let match = NO_CODE.exec(text); match !== null; match = NO_CODE.exec(text)) {
    const end = match[0] === '/*' ? endOfComment(text, match.index) : NO_CODE.lastIndex;
    code += text.slice(at, match.index) + blank(text.slice(match.index, end));
    at = end;
    NO_CODE.lastIndex = end;
  }
  return code + text.slice(at);
}

/** The place behind the bracket that closes the one at `start`, and the pieces between commas on its own level. */
function bracket(code, start, angles) {
  const pieces = [''];
  let depth = 0;
  for (let at = start; at < code.length; at += 1) {
    const sign = code[at];
    const isArrow = sign === '>' && (code[at - 1] === '-' || code[at - 1] === '=');
    const counts = !isArrow && (angles || (sign !== '<' && sign !== '>'));
    if (counts && CLOSE.includes(sign)) depth -= 1;
    if (depth === 0 && at > start) return { end: at + 1, pieces };
    if (depth === 1 && sign === ',') pieces.push('');
    else if (depth > 0) pieces[pieces.length - 1] += sign;
    if (counts && OPEN.includes(sign)) depth += 1;
  }
  return { end: code.length, pieces };
}

function functionAt(code, nameEnd) {
  let at = nameEnd;
  while (/\s/.test(code[at] ?? '')) at += 1;
  if (code[at] === '<') at = bracket(code, at, true).end;
  at = code.indexOf('(', at);
  const { end, pieces } = bracket(code, at, true);
  const parameters = pieces
    .map((piece) => piece.trim())
    .filter((piece) => piece !== '' && !/^(&\s*('\w+\s*)?)?(mut\s+)?self\b/.test(piece));
  // A declaration without a body ends at a semicolon, which may also be in the type of an array.
  for (let body = end; body < code.length; body += 1) {
    if (code[body] === '{') return { end: bracket(code, body, false).end, parameters: parameters.length };
    if (code[body] === '[' || code[body] === '(') body = bracket(code, body, true).end - 1;
    if (code[body] === ';') return { end: body, parameters: parameters.length };
  }
  return { end: code.length, parameters: parameters.length };
}

function lineOf(text, at) {
  return text.slice(0, at).split('\n').length;
}

/** As of `typescript.mjs`; a receiver is no parameter. */
export function functionsOf(text) {
  const code = codeOf(text);
  return [...code.matchAll(/\bfn\s+(\w+)/g)].map((match) => {
    const { end, parameters } = functionAt(code, match.index + match[0].length);
    const line = lineOf(code, match.index);
    return { name: match[1], line, lines: lineOf(code, end - 1) - line + 1, parameters };
  });
}
