/**
 * Owns the one shape of the world's failures: what a person reads at 3 a.m. and what code branches
 * on. Expected refusals are return values, bugs are plain throws; this is for what lies between.
 */

/** Settings of a MeshError. */
export interface MeshErrorDetails {
  /** Stable, lower case with hyphens, documented. */
  readonly code: string
  /** What to do about it, in one sentence. */
  readonly hint?: string
  /** Whether trying again may work without anybody's help. */
  readonly retry?: boolean
  readonly cause?: unknown
}

/** A failure of the world around the mesh. */
export class MeshError extends Error {
  override readonly name = 'MeshError'
  readonly code: string
  readonly hint: string | undefined
  readonly retry: boolean

  constructor(message: string, details: MeshErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = details.code
    this.hint = details.hint
    this.retry = details.retry ?? false
  }
}

/** The message of anything thrown, for logs and wrapping errors. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
