/** Owns what a complaint about a file or a variable is, and how it reads on one line. */

/** One thing wrong with one place. */
export interface Problem {
  /** The file's path, or the environment variable's name. */
  readonly file: string
  /** From 1; 0 where the whole file or a variable is meant. */
  readonly line: number
  /** From 1, in UTF-16 units as editors count; 0 with line 0. */
  readonly column: number
  /** JSON pointer (RFC 6901) of the value it is about; empty for the whole document. */
  readonly path: string
  /** Stable name of the rule that was broken, such as `unknown-key`. */
  readonly rule: string
  /** What is wrong, with the value that is. */
  readonly message: string
  /** What to do about it; may be empty. */
  readonly hint: string
}

/** Reports one problem at a JSON pointer; `at` picks the key instead of its value. */
export type Report = (
  pointer: string,
  fault: {
    readonly rule: string
    readonly message: string
    readonly hint?: string
    /** @default 'value' */
    readonly at?: 'key' | 'value'
  },
) => void

/** `file:line:column: message (hint)`, as compilers print it. */
export function renderProblem(problem: Problem): string {
  const place =
    problem.line === 0 ? problem.file : `${problem.file}:${problem.line}:${problem.column}`
  const hint = problem.hint === '' ? '' : ` (${problem.hint})`
  return `${place}: ${problem.message}${hint}`
}
