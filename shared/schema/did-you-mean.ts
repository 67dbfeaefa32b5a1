/** Owns the guess at what somebody meant to type. */

/**
 * The candidate nearest to `text`, or null when none is near enough to be meant: at most `within`
 * slips of the finger away, by default one for every three letters.
 */
export function didYouMean(
  text: string,
  candidates: Iterable<string>,
  settings: { readonly within?: number } = {},
): string | null {
  const asked = text.slice(0, 64).toLowerCase()
  let best: string | null = null
  let bestDistance = (settings.within ?? Math.max(1, Math.floor(asked.length / 3))) + 1
  for (const candidate of candidates) {
    const distance = editDistance(asked, candidate.toLowerCase())
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** Insertions, deletions, replacements and swaps of neighbours between two short texts. */
function editDistance(from: string, to: string): number {
  let before: number[] = []
  let above = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let row = 1; row <= from.length; row += 1) {
    const current = [row]
    for (let column = 1; column <= to.length; column += 1) {
      const same = from[row - 1] === to[column - 1]
      const swapped =
        row > 1 &&
        column > 1 &&
        from[row - 1] === to[column - 2] &&
        from[row - 2] === to[column - 1]
      current.push(
        Math.min(
          (above[column] ?? 0) + 1,
          (current[column - 1] ?? 0) + 1,
          (above[column - 1] ?? 0) + (same ? 0 : 1),
          swapped ? (before[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
        ),
      )
    }
    before = above
    above = current
  }
  return above[to.length] ?? 0
}
