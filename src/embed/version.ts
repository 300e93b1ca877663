/** The version of this package, from its own description. */

import { readFileSync } from 'node:fs';

const description: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

export const VERSION = (description as { version: string }).version;
