/**
 * Owns callers under load: plain HTTP, one request after the other each, over kept-alive or fresh
 * connections, no retries, every request counted once. Whatever is not a whole 200 in time failed.
 */

import { Agent, request } from 'node:http'

/** Where and how to call. */
export interface CallTarget {
  readonly host: string
  readonly port: number
  /** Path, or the whole URL for a forward proxy. @default '/' */
  readonly path?: string
  /** @default 'GET' */
  readonly method?: 'GET' | 'POST'
  /** A connection for each request. @default false */
  readonly fresh?: boolean
}

/** What one call came to. */
export interface CallAnswer {
  /** 0 where there was none. */
  readonly status: number
  /** The host that answered, as the service says. */
  readonly host: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
  /** Empty after a whole answer. */
  readonly problem: string
}

/** Only a broken mesh takes longer. */
const patienceMs = 15_000
const pauseMs = 5

/** Sends one request. Never rejects. */
export function call(target: CallTarget, agent: Agent | false = false): Promise<CallAnswer> {
  const { host, port, path = '/', method = 'GET' } = target
  return new Promise((resolve) => {
    const none = (problem: string): void =>
      resolve({ status: 0, host: '', headers: {}, body: '', problem })
    const headers = path.startsWith('http') ? { host: new URL(path).host } : {}
    const options = { host, port, path, method, headers, agent, timeout: patienceMs }
    const sent = request(options, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
      response.on('error', (error) => none(`half an answer: ${error.message}`))
      response.on('end', () => {
        const { statusCode: status = 0, headers } = response
        const host = /"host":"([^"]*)"/.exec(body)?.[1] ?? ''
        resolve({ status, host, headers, body, problem: '' })
      })
    })
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${patienceMs} ms`)))
    sent.on('error', (error) => none(error.message))
    sent.end(method === 'POST' ? 'a few bytes' : undefined)
  })
}

/** Callers that go on until they are stopped. */
export class Callers {
  /** Whole answers by the host that gave them. */
  readonly answers = new Map<string, number>()
  readonly failures: string[] = []
  requests = 0
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 })
  readonly #loops: Promise<unknown>
  #stopped = false

  /** Begins: two callers a target. */
  constructor(settings: { readonly targets: readonly CallTarget[] }) {
    const loops = settings.targets.flatMap((target) => [this.#loop(target), this.#loop(target)])
    this.#loops = Promise.all(loops)
  }

  /** Whole answers of a host, or of all. */
  answered(host?: string): number {
    if (host !== undefined) return this.answers.get(host) ?? 0
    return [...this.answers.values()].reduce((sum, count) => sum + count, 0)
  }

  /** Lets every open request end, then stops. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#loops
    this.#agent.destroy()
  }

  async #loop(target: CallTarget): Promise<void> {
    const { method = 'GET', port } = target
    while (!this.#stopped) {
      const { status, host, headers, problem } = await call(
        target,
        target.fresh === true ? false : this.#agent,
      )
      this.requests++
      if (status === 200) this.answers.set(host, (this.answers.get(host) ?? 0) + 1)
      else {
        const reason = String(headers['x-mesh-reason'] ?? '')
        this.failures.push(`${method} :${port} ${problem || `${status} ${reason}`}`)
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
    }
  }
}
