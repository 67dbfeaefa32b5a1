/**
 * Owns where the socket between the control process and its workers stands. Private keys pass over
 * it, so it has a directory of its own that only the agent's user may enter: the socket itself is
 * open to others for the moment between its making and its chmod.
 */

/** The socket's path below the agent's run directory. */
export function workerSocketPath(runDirectory: string): string {
  return `${runDirectory}/workers/control.sock`
}
