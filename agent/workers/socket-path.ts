/**
 * Owns where the sockets between the control process and its workers stand. Private keys pass over
 * one, and whom the other says to be a caller counts, so they have a directory of their own that only the agent's user may enter: a socket itself is
 * open to others for the moment between its making and its chmod.
 */

/** The socket's path below the agent's run directory. */
export function workerSocketPath(runDirectory: string): string {
  return `${runDirectory}/workers/control.sock`
}

/** Where workers hand on connections to the API for applications, beside it and as private. */
export function applicationSocketPath(runDirectory: string): string {
  return `${runDirectory}/workers/applications.sock`
}
