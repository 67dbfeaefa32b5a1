/** Owns the CLI's end of the agent's admin socket: one question or command, one answer, a deadline. */

import { request } from 'node:http'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { CaptureExplanation, CaptureReport } from '#shared/model/admin-capture.ts'
import type { AuthzAnswer } from '#shared/model/admin-policies.ts'
import type {
  BypassWish,
  CaptureWish,
  HealthResult,
  RotationWish,
} from '#shared/model/admin-wishes.ts'
import type { GenerationReport } from '#shared/model/admin-workers.ts'
import type { AdminProblem, AgentFacts, CheckReport, ReloadReport } from '#shared/model/admin.ts'
import type { WhyAnswer, WhyQuestion } from '#shared/model/why.ts'

/** What can be asked, with what is answered. */
export interface AdminAnswers extends AgentFacts {
  readonly checks: readonly CheckReport[]
  readonly generations: readonly GenerationReport[]
}

/** What can be commanded, with what is sent. */
export interface AdminCommands {
  readonly reload: {
    readonly input: Readonly<Record<string, never>>
    readonly answer: ReloadReport
  }
  readonly health: { readonly input: HealthResult; readonly answer: unknown }
  readonly capture: {
    readonly input: CaptureWish
    readonly answer: Pick<CaptureReport, 'kind'>
  }
  readonly bypass: { readonly input: BypassWish; readonly answer: Pick<CaptureReport, 'kind'> }
  readonly rotation: {
    readonly input: RotationWish
    readonly answer: { readonly services: readonly string[] }
  }
  readonly why: { readonly input: WhyQuestion; readonly answer: WhyAnswer }
}

/** Settings of a client. */
export interface AdminSocketSettings {
  readonly socketPath: string
  /** Longer than the agent may take to walk a path. @default 15000 */
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

  /** What becomes of a connection of a local user. @throws MeshError as {@link ask} */
  async explainCapture(query: URLSearchParams): Promise<CaptureExplanation> {
    return (await this.#ask(`capture/explain?${query.toString()}`)) as CaptureExplanation
  }

  async #ask(what: string): Promise<unknown> {
    const { status, body } = await this.#exchange(`/v1/${what}`, null)
    if (status === 200) return JSON.parse(body)
    throw new MeshError(`the agent answered ${status} for ${what}: ${body.trim().slice(0, 300)}`, {
      code: 'agent-answer',
      hint: 'is meshctl of the same version as the agent?',
    })
  }

  /**
   * Has the agent do something; answers what it says.
   * @throws MeshError `agent-unreachable`, `agent-refused`, `agent-answer`
   */
  async tell<K extends keyof AdminCommands>(
    what: K,
    input: AdminCommands[K]['input'],
  ): Promise<AdminCommands[K]['answer']> {
    const { status, body } = await this.#exchange(`/v1/${what}`, JSON.stringify(input))
    if (status === 200) return JSON.parse(body) as AdminCommands[K]['answer']
    const problem = problemIn(body)
    throw problem === null
      ? new MeshError(`the agent answered ${status} to ${what}: ${body.trim().slice(0, 300)}`, {
          code: 'agent-answer',
          hint: 'is meshctl of the same version as the agent?',
        })
      : new MeshError(problem.message, { code: 'agent-refused', hint: problem.hint ?? '' })
  }

  #exchange(
    path: string,
    sends: string | null,
  ): Promise<{ readonly status: number; readonly body: string }> {
    const { socketPath, timeoutMs = 15_000 } = this.#settings
    return new Promise((resolve, reject) => {
      const fail = (cause: unknown): void => reject(this.#unreachable(cause))
      const method = sends === null ? 'GET' : 'POST'
      const signal = AbortSignal.timeout(timeoutMs)
      const options = { socketPath, path, method, agent: false, signal } as const
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
      sent.on('error', fail).end(sends ?? undefined)
    })
  }

  #unreachable(cause: unknown): MeshError {
    const { socketPath } = this.#settings
    const code = (cause as NodeJS.ErrnoException).code ?? ''
    const known = remedies.get(code)
    const [why, hint] = known ?? [messageOf(cause), 'the agent is busy or stuck; see its log']
    const message = `no agent answers on ${socketPath}: ${why}`
    return new MeshError(message, { code: 'agent-unreachable', hint, cause })
  }
}

function problemIn(body: string): AdminProblem['error'] | null {
  try {
    return (JSON.parse(body) as AdminProblem).error
  } catch {
    return null
  }
}

/** What it means where the socket cannot be reached, and what to do, by the system's code. */
const remedies: ReadonlyMap<string, readonly [why: string, hint: string]> = new Map([
  [
    'ENOENT',
    [
      'there is no such socket',
      'start mesh-agent (systemctl start mesh-agent), or name its socket with --socket or MESH_AGENT_SOCKET',
    ],
  ],
  [
    'ECONNREFUSED',
    [
      'nobody listens on it',
      'the agent has ended without removing it: start it again (systemctl start mesh-agent)',
    ],
  ],
  ['EACCES', ['this user may not open it', 'run as root, or as a member of the socket’s group']],
])
