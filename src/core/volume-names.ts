/**
 * Names and ids of volumes: which volume a text means.
 *
 * A volume is its id; the name is what people call it, and can change. Two volumes have the same name when each was made, or
 * renamed, where the other could not be seen. Then the name means neither.
 */

import { StrakeError } from './errors.js';

const ID = /^[0-9a-f]{32}$/i;
/** Digits of an id that may stand for all of it. Fewer could be meant as a name: `cafe`, `feed`. */
const PREFIX = /^[0-9a-f]{8,31}$/i;

/** What of a volume a text can mean. */
export interface NamedVolume {
  /** 32 hexadecimal digits. */
  readonly id: string;
  readonly name: string;
}

/** The volumes that a text means: those of this name; if there is none, those whose id it is, or begins. */
export function volumesMeant<V extends NamedVolume>(volumes: Iterable<V>, text: string): V[] {
  const all = [...volumes];
  const named = all.filter(({ name }) => name === text);
  if (named.length > 0) return named;
  const digits = text.toLowerCase();
  return ID.test(text) || PREFIX.test(text) ? all.filter(({ id }) => id.startsWith(digits)) : [];
}

/**
 * The one volume that a text means. Throws `ERR_STRAKE_NO_VOLUME`, and `ERR_STRAKE_NAME_CONFLICT` with the ids if it means
 * several.
 */
export function volumeMeant<V extends NamedVolume>(volumes: Iterable<V>, text: string): V {
  const found = volumesMeant(volumes, text);
  if (found.length === 1) return found[0];
  if (found.length === 0) throw new StrakeError('NO_VOLUME', `there is no volume ${JSON.stringify(text)}`);
  if (found[0].name === text) throw nameConflict(found);
  const ids = found.map(({ id }) => id).join(', ');
  const what = `the ids of ${found.length} volumes begin with ${text}: ${ids}`;
  throw new StrakeError('NAME_CONFLICT', what, { remedy: 'Give more digits of the id.' });
}

/** What is wrong with volumes that have the same name. */
export function nameConflict(volumes: readonly NamedVolume[]): StrakeError {
  const [{ name }] = volumes;
  const ids = volumes.map(({ id }) => id).join(', ');
  return new StrakeError('NAME_CONFLICT', `${volumes.length} volumes are named ${name}: ${ids}`, {
    remedy: conflictRemedy(volumes.map(({ id }) => id)),
  });
}

/** What to do about volumes of the same name. */
export function conflictRemedy(ids: readonly string[]): string {
  const id = ids.at(-1) ?? 'ID';
  return `Rename one by its id: strake volume rename ${id} NEWNAME; or delete one: strake volume delete ${id}.`;
}
