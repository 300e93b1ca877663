/** New names for things that have none yet. */

export interface IdSource {
  /** 32 hexadecimal digits that nobody has seen before. */
  newId(): string;
}
