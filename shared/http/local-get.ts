/**
 * Owns HTTP GETs to services of this very machine. Home of undici. A service that is asked cannot
 * lead the asker anywhere: no redirect is followed, no name is resolved, no address off the machine
 * is dialled, no connection is kept, and no answer is larger than the bound. Undici is loaded by the
 * first of them: it takes 10 MiB, and a host may have nothing to ask.
 */

import { isIPv6 } from 'node:net'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import { isLocalAddress } from './local-address.ts'

/** What to ask. */
export interface LocalGet {
  /** An IP address of this machine. */
  readonly address: string
  readonly port: number
  /** Request target, beginning with a slash. */
  readonly path: string
  /** Ends the request at once. */
  readonly signal: AbortSignal
}

/** What came back: a status, or why there is none. */
export type LocalGetAnswer =
  | { readonly kind: 'answered'; readonly status: number }
  | { readonly kind: 'failed'; readonly problem: string }

/** Most bytes of a body that are read before the connection is cut, so that no answer is endless. */
const mostBodyBytes = 64 * 1024
const mostHeadBytes = 16 * 1024

/** Asks once. Never rejects. */
export async function getLocal({ address, port, path, signal }: LocalGet): Promise<LocalGetAnswer> {
  if (!isLocalAddress(address)) {
    return { kind: 'failed', problem: `${address} is not an address of this host` }
  }
  const { Client } = await import('undici')
  const host = isIPv6(address) ? `[${address}]` : address
  const client = new Client(`http://${host}:${port}`, {
    // Without pipelining there is no keep-alive: one request, one connection.
    pipelining: 0,
    maxHeaderSize: mostHeadBytes,
    maxResponseSize: mostBodyBytes,
    // The caller's signal bounds the whole; several clocks would only disagree.
    connect: { timeout: 0 },
    headersTimeout: 0,
    bodyTimeout: 0,
  })
  try {
    const headers = { 'user-agent': 'hostmesh-health' }
    const response = await client.request({ method: 'GET', path, headers, signal })
    const { statusCode: status, body } = response
    // Read to its end, so that the service does not see its answer cut off.
    await body.dump({ limit: mostBodyBytes, signal }).catch(() => {})
    return { kind: 'answered', status }
  } catch (error) {
    return { kind: 'failed', problem: signal.aborted ? messageOf(signal.reason) : messageOf(error) }
  } finally {
    await client.destroy()
  }
}
