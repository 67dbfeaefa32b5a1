/**
 * Owns a first look at a controller before a host trusts it: whether it answers, and whether this host's
 * clock fits. It believes nothing it hears; joining proves who answered.
 */

import { connect } from 'node:tls'

/** What is wrong, in one line; empty where nothing is. */
export function controllerProblem(settings: {
  readonly host: string
  readonly port: number
  /** Milliseconds since the epoch, by this host. */
  readonly nowMs: number
  /** @default 5000 */
  readonly timeoutMs?: number
}): Promise<string> {
  const { host, port, nowMs, timeoutMs = 5000 } = settings
  const where = `${host}:${port}`
  return new Promise((resolve) => {
    // Nothing is said and nothing believed, so there is nobody to verify.
    const socket = connect({ host, port, rejectUnauthorized: false, ALPNProtocols: ['h2'] })
    const done = (problem: string): void => {
      socket.destroy()
      resolve(problem)
    }
    socket.setTimeout(timeoutMs, () => done(unreachable('no answer')))
    socket.once('error', (error: NodeJS.ErrnoException) => {
      done(unreachable(error.code ?? error.message))
    })
    socket.once('secureConnect', () => {
      const { valid_from: from, valid_to: to } = socket.getPeerCertificate()
      const isOff = nowMs < Date.parse(from) || nowMs > Date.parse(to)
      const now = new Date(nowMs).toISOString()
      done(
        isOff
          ? `it is ${now} here, but the certificate of ${where} is good from ${from} to ${to}: set this host's clock`
          : '',
      )
    })

    function unreachable(why: string): string {
      return `the controller at ${where} cannot be reached (${why}): does it run, is port ${port} open from here?`
    }
  })
}
