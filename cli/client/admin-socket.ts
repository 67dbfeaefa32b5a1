/** Owns the CLI's end of the agent's admin socket: one question, one answer, a deadline. */

import { request } from 'node:http'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { AgentFacts, AuthzAnswer, CheckReport } from '#shared/model/admin.ts'

/** What can be asked, with what is answered. */
export interface AdminAnswers extends AgentFacts {
  readonly checks: readonly CheckReport[]
}

/** Settings of a client. */
export interface AdminSocketSettings {
  readonly socketPath: string
  /** @default 5000 */
  readonly timeoutMs?: number
}

const maxBytes = 64 * 1024 * 1024

/** Asks an agent. */
export class AdminSocket {
  readonly #settings: AdminSocketSettings

  constructor(settings: AdminSocketSettings) {
    this.#settings = settings
  }

  /** Where it asks. */
  get path(): string {
    return this.#settings.socketPath
  }

  /** One answer. @throws MeshError `agent-unreachable`, `agent-answer` */
  async ask<K extends keyof AdminAnswers>(what: K): Promise<AdminAnswers[K]> {
    return (await this.#ask(what)) as AdminAnswers[K]
  }

  /** Whether a call would be permitted. @throws MeshError as {@link ask} */
  async explain(query: URLSearchParams): Promise<AuthzAnswer> {
    return (await this.#ask(`authz/explain?${query.toString()}`)) as AuthzAnswer
  }

  async #ask(what: string): Promise<unknown> {
    const { status, body } = await this.#get(`/v1/${what}`)
    if (status === 200) return JSON.parse(body)
    throw new MeshError(`the agent answered ${status} for ${what}: ${body.trim().slice(0, 300)}`, {
      code: 'agent-answer',
      hint: 'is meshctl of the same version as the agent?',
    })
  }

  #get(path: string): Promise<{ readonly status: number; readonly body: string }> {
    const { socketPath, timeoutMs = 5000 } = this.#settings
    return new Promise((resolve, reject) => {
      const fail = (cause: unknown): void => reject(this.#unreachable(cause))
      const options = { socketPath, path, agent: false, signal: AbortSignal.timeout(timeoutMs) }
      const sent = request(options, (response) => {
        const chunks: Buffer[] = []
        let bytes = 0
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length
          if (bytes > maxBytes) sent.destroy(new Error('the answer is too large'))
          else chunks.push(chunk)
        })
        response.on('error', fail)
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            body: Buffer.concat(chunks).toString('utf8'),
          }),
        )
      })
      sent.on('error', fail).end()
    })
  }

  #unreachable(cause: unknown): MeshError {
    const { socketPath } = this.#settings
    const code = (cause as NodeJS.ErrnoException).code ?? ''
    return new MeshError(`no agent answers on ${socketPath}: ${messageOf(cause)}`, {
      code: 'agent-unreachable',
      hint: hints.get(code) ?? 'the agent is busy or stuck; see its log',
      cause,
    })
  }
}

const hints: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'start mesh-agent, or name its socket with --socket or MESH_AGENT_SOCKET'],
  ['ECONNREFUSED', 'the agent has ended without removing its socket: start it again'],
  ['EACCES', 'run as root, or as a member of the socket’s group'],
])
