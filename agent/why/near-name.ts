/** Owns the guess what somebody meant who wrote a name that nobody has. Pure. */

/** The known name that differs least, by two letters at most; null where none is near. */
export function nearName(name: string, known: readonly string[]): string | null {
  let best: string | null = null
  let least = Math.min(2, Math.floor(name.length / 3)) + 1
  for (const other of known) {
    const distance = editDistance(name, other)
    if (distance >= least) continue
    least = distance
    best = other
  }
  return best
}

/** Letters to insert, delete or replace (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
