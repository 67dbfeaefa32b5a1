/** Owns the exit codes of `meshctl`; documented in `docs/meshctl.md`. */

/** What a finished `meshctl` says to scripts. */
export const exitCodes = {
  ok: 0,
  /** It was asked and answered, and something is not in order. */
  notInOrder: 1,
  /** The command line makes no sense. */
  usage: 2,
  /** The agent or the controller could not be asked, or refused. */
  unreachable: 3,
} as const
