/**
 * Owns the demo's clients: plain HTTP over kept-alive connections, one request after the other on
 * each, no retries, every request counted once.
 */

import { Agent, request } from 'node:http'

/** One way into the mesh. */
export interface Target {
  readonly name: string
  readonly host: string
  readonly port: number
  /** Path, or the whole URL for a forward proxy. */
  readonly path: string
  /** The `host` header. */
  readonly authority: string
  readonly connections: number
}

/** Counts so far. */
export interface LoadCount {
  readonly requests: number
  readonly failed: number
  /** Answers by the host that gave them. */
  readonly byHost: Readonly<Record<string, number>>
  readonly byTarget: Readonly<Record<string, number>>
  /** What went wrong, the first few. */
  readonly failures: readonly string[]
}

/** Only a broken mesh takes longer, also on a crowded machine. */
const patienceMs = 5000
const pauseMs = 8

/** Sends requests until it is stopped. */
export class Load {
  readonly #targets: readonly Target[]
  readonly #agent: Agent
  readonly #byHost = new Map<string, number>()
  readonly #byTarget = new Map<string, number>()
  readonly #failures: string[] = []
  #requests = 0
  #failed = 0
  #stopped = false
  #loops: Promise<unknown> = Promise.resolve()

  constructor(settings: { readonly targets: readonly Target[] }) {
    this.#targets = settings.targets
    this.#agent = new Agent({ keepAlive: true, maxSockets: 64 })
  }

  start(): void {
    const loops = this.#targets.flatMap((target) =>
      Array.from({ length: target.connections }, () => this.#loop(target)),
    )
    this.#loops = Promise.all(loops)
  }

  get count(): LoadCount {
    return {
      requests: this.#requests,
      failed: this.#failed,
      byHost: Object.fromEntries(this.#byHost),
      byTarget: Object.fromEntries(this.#byTarget),
      failures: this.#failures,
    }
  }

  /** Lets every open request end, then stops. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#loops
    this.#agent.destroy()
  }

  async #loop(target: Target): Promise<void> {
    while (!this.#stopped) {
      const answer = await ask(target, this.#agent)
      this.#requests++
      add(this.#byTarget, target.name)
      if (answer.ok) add(this.#byHost, answer.host)
      else {
        this.#failed++
        if (this.#failures.length < 10) this.#failures.push(`${target.name}: ${answer.problem}`)
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
    }
  }
}

/** What one request came to. */
export type LoadAnswer =
  { readonly ok: true; readonly host: string } | { readonly ok: false; readonly problem: string }

/** Sends one request. Never rejects. */
export function ask(target: Target, agent?: Agent): Promise<LoadAnswer> {
  const { host, port, path, authority } = target
  return new Promise((resolve) => {
    const bad = (problem: string): void => resolve({ ok: false, problem })
    const options = {
      host,
      port,
      path,
      headers: { host: authority },
      agent: agent ?? false,
      timeout: patienceMs,
    }
    const sent = request(options, (response) => {
      const { statusCode = 0, headers } = response
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
      response.on('error', (error) => bad(error.message))
      response.on('end', () => {
        if (statusCode !== 200) bad(`${statusCode} ${String(headers['x-mesh-reason'] ?? '')}`)
        else resolve({ ok: true, host: /"host":"([^"]*)"/.exec(body)?.[1] ?? 'unknown' })
      })
    })
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${patienceMs} ms`)))
    sent.on('error', (error) => bad(error.message)).end()
  })
}

function add(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1)
}
