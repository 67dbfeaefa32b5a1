/**
 * Owns the last words of a test run before its counts: everything that failed, a line each, so that
 * who keeps only the end of what was printed still knows what it was. It prints nothing.
 */

/** What failed, in a few words. */
export interface Problem {
  /** File and test, or the check. */
  readonly where: string
  readonly why: string
}

const longest = 300

/** The lines; none where nothing failed. */
export function namesOf(problems: readonly Problem[]): readonly string[] {
  if (problems.length === 0) return []
  const lines = problems.map(({ where, why }) => {
    const line = `  ${where}: ${why.replaceAll(/\s+/g, ' ').trim()}`
    return line.length > longest ? `${line.slice(0, longest)}…` : line
  })
  return ['\nfailed:', ...lines]
}
