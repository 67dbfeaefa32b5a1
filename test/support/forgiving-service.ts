/**
 * Owns a service that reads requests as forgivingly as frameworks do, all of them together: it
 * decodes until nothing is left to decode, resolves and merges, drops parameters, case, dots and
 * blanks, lets fields and parameters replace method and path. It counts who reached what is forbidden.
 */

import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What a request reached. */
export type Reached = 'admin-path' | 'delete' | 'admin-host' | 'nothing forbidden'

/** See the header. */
export class ForgivingService {
  readonly reached: string[] = []
  readonly #server = createServer((request, response) => {
    const what = reachedBy(request)
    const { method = '', url = '', headers } = request
    if (what !== 'nothing forbidden') this.reached.push(`${what}: ${method} ${url} ${headers.host}`)
    request.resume()
    response.end(what)
  })

  /** Begins to listen. */
  static async start(t: {
    readonly teardown: (run: () => void) => void
  }): Promise<ForgivingService> {
    const service = new ForgivingService()
    service.#server.listen(0, '127.0.0.1')
    await once(service.#server, 'listening')
    t.teardown(() => {
      service.#server.close()
      service.#server.closeAllConnections()
    })
    return service
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }
}

function reachedBy(request: IncomingMessage): Reached {
  const [path = '', query = ''] = targetOf(request).split('?', 2)
  if (/^\/admin(?:\/|$)/.test(simplified(path))) return 'admin-path'
  if (methodOf(request, query) === 'DELETE') return 'delete'
  return hostOf(request).startsWith('admin.') ? 'admin-host' : 'nothing forbidden'
}

/** The value of a field, however `_` and `-` are written. */
function field(request: IncomingMessage, name: string): string {
  const found = Object.entries(request.headers).find(([one]) => one.replaceAll('_', '-') === name)
  return String(found?.[1] ?? '')
}

function targetOf(request: IncomingMessage): string {
  const { url = '' } = request
  const target = field(request, 'x-original-url') || field(request, 'x-rewrite-url') || url
  return target.replace(/^https?:\/\/[^/]*/i, '')
}

function methodOf(request: IncomingMessage, query: string): string {
  const given = query
    .split(/[&;]/)
    .map((pair) => decoded(pair.replaceAll('+', ' ')).trim().toLowerCase())
    .find((pair) => pair.startsWith('_method'))
  const method =
    given?.split('=', 2)[1] ??
    (field(request, 'x-http-method-override') ||
      field(request, 'x-http-method') ||
      field(request, 'x-method-override') ||
      request.method ||
      '')
  return method.trim().toUpperCase()
}

function hostOf(request: IncomingMessage): string {
  const url = /^https?:\/\/([^/]*)/i.exec(request.url ?? '')?.[1]
  const host = decoded(url ?? request.headers.host ?? '')
  // Who names no host gets the first one there is.
  if (host === '') return 'admin.mesh'
  return (
    host
      .replace(/^.*@/, '')
      .split(/[:,#/]/)[0]
      ?.trim()
      .toLowerCase() ?? ''
  )
}

function simplified(path: string): string {
  let plain = path
  for (let round = 0; round < 4; round++) plain = decoded(plain)
  plain = plain.normalize('NFKC').replace(/\p{Default_Ignorable_Code_Point}/gu, '')
  plain = plain.replaceAll('\\', '/').replace(/[\0#?].*$/s, '')
  const segments: string[] = []
  for (const raw of plain.split('/')) {
    const segment = raw.replace(/;.*$/s, '').trim()
    if (segment === '..') segments.pop()
    else if (segment !== '.' && segment !== '') segments.push(segment.replace(/[. ]+$/, ''))
  }
  return `/${segments.join('/')}`.toUpperCase().toLowerCase()
}

/** Decodes what can be decoded, byte for byte where it is no UTF-8. */
function decoded(text: string): string {
  const unicode = text.replace(/%u([0-9a-f]{4})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )
  try {
    return decodeURIComponent(unicode)
  } catch {
    return unicode
      .replace(/%c0%ae/gi, '.')
      .replace(/%c0%af/gi, '/')
      .replace(/%([0-7][0-9a-f])/gi, (_, hex: string) =>
        String.fromCharCode(Number.parseInt(hex, 16)),
      )
  }
}
