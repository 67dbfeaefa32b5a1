/**
 * Owns a request as routing and policy see it. One object a request, made once, so that no two of
 * them can read the same bytes differently. Types only.
 */

/** The path of a request target, read once; see `shared/route/request-path.ts`. */
export interface RequestPath {
  /** What a service could read differently; empty where there is but one reading. */
  readonly problem: string
  /** Decoded. */
  readonly text: string
  /** For comparing as the most forgiving service would: without case and trailing slash. */
  readonly folded: string
}

/** What routing and policy may ask of a request. */
export interface RequestFacts {
  readonly method: string
  readonly path: RequestPath
  /** Behind the `?`; empty without. */
  readonly query: string
  /** In lower case, without port and trailing dot; empty where the request names none. */
  readonly host: string
  /** A field that some frameworks let replace the path, or the method; empty where there is none. */
  readonly pathOverride: string
  readonly methodOverride: string
  /** Every field line: its name in lower case, and its value. */
  readonly lines: readonly (readonly [name: string, value: string])[]
  /** Fields that `Connection` names, which therefore go no further. */
  readonly nominated: ReadonlySet<string> | null
}
