/** One cell of the table: a party on a row, and what it is measured on. */

import type { Party, Row } from './rows.js';

/** One cell: a party on a row. */
export interface Cell {
  readonly row: Row;
  readonly party: Party;
  /** The file or device; not used for null rows. */
  readonly file: string;
  /** Another one, for the second copy of a mirror. */
  readonly second: string;
  readonly sizeBytes: number;
  readonly seconds: number;
  /** A folder for sockets. */
  readonly folder: string;
  /** Used slots of the device whose tables do not fit in memory. */
  readonly slots: number;
}
