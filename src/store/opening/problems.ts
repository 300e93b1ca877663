/** What reading a device may find that is not as it was written. */

/** Classes of damage. */
export type ProblemKind =
  | 'superblock'
  | 'size'
  | 'root'
  | 'directory'
  | 'directory index'
  | 'volume directory'
  | 'slots'
  | 'volume'
  | 'journal'
  | 'journal-stray'
  | 'table'
  | 'record'
  /** The activity log. */
  | 'active'
  /** An entry of a block table. */
  | 'entry'
  | 'data'
  /** The device does not return what it holds. */
  | 'read';

/** Something that is not as it was written. */
export interface Problem {
  readonly kind: ProblemKind;
  readonly text: string;
  /** Offset of the damage on the device, where there is one. */
  readonly offset?: number;
  /** Nothing is lost by it: there is another copy, or it is not needed. */
  readonly harmless: boolean;
}

/** Told of each problem; may throw to end the reading. */
export type OnProblem = (problem: Problem) => void;
