/** Work that goes on side by side, of which none may be left behind. */

/** Rejects as `Promise.all`, and only when all have ended: whoever gives up may then close what they work on. */
export async function allEnded<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const ends = await Promise.allSettled(work);
  return ends.map((end) => {
    if (end.status === 'rejected') throw end.reason;
    return end.value;
  });
}
