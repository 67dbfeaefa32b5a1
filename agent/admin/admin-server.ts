/**
 * Owns the agent's admin socket: facts about this host as JSON, and commands, for `meshctl` and
 * scripts. A unix socket, so that file permissions say who may. It holds no secrets.
 */

import { chmodSync, rmSync } from 'node:fs'
import type { Logger } from '#shared/logging/logger.ts'
import type { AdminProblem } from '#shared/model/admin.ts'
import type { AdminCommands } from './admin-commands.ts'
import type { AdminSource } from './admin-source.ts'
import { type Answer, BoundedServer, json } from './bounded-server.ts'
import { judge } from './checks.ts'
import { refuseSecondAgent } from './second-agent.ts'

/** Settings of the socket. */
export interface AdminServerSettings {
  /** As in `/run/mesh/agent/agent.sock`. */
  readonly socketPath: string
  /** Permission bits. @default 0o660 */
  readonly mode?: number
}

type Routes = Readonly<Record<string, (query: URLSearchParams) => unknown>>

/** Serves an agent's facts. */
export class AdminServer {
  readonly #server: BoundedServer
  readonly #settings: AdminServerSettings

  constructor(
    parts: {
      readonly source: AdminSource
      readonly logger: Logger
      /** @default none */
      readonly commands?: AdminCommands
    },
    settings: AdminServerSettings,
  ) {
    const { source, logger, commands = {} } = parts
    const routes: Routes = {
      '/v1/status': () => source.status(),
      '/v1/services': () => source.services(),
      '/v1/external': () => source.external(),
      '/v1/manifests': () => source.manifests(),
      '/v1/certificates': () => source.certificates(),
      '/v1/policies': () => source.policies(),
      '/v1/generations': () => source.generations(),
      '/v1/authz/explain': (query) => source.explain(query),
      '/v1/capture/explain': (query) => source.explainCapture(query),
      '/v1/checks': () =>
        judge({
          status: source.status(),
          services: source.services(),
          external: source.external(),
          manifests: source.manifests(),
          certificates: source.certificates(),
          policies: source.policies(),
          machine: source.machine(),
        }),
    }
    this.#settings = settings
    this.#server = new BoundedServer(
      {
        respond: (path, question) =>
          question.method === 'GET'
            ? answer(routes, path, question.query)
            : carryOut(commands, path, question.body, logger),
        logger,
      },
      { name: 'the admin socket', listen: { path: settings.socketPath }, takes: 'POST' },
    )
  }

  /**
   * Opens the socket; one that a dead agent left behind is replaced.
   * @throws MeshError `agent-already-runs`, `listen-failed`
   */
  async start(): Promise<void> {
    const { socketPath, mode = 0o660 } = this.#settings
    await refuseSecondAgent(socketPath)
    rmSync(socketPath, { force: true })
    await this.#server.start()
    chmodSync(socketPath, mode)
  }

  /** Closes and removes the socket. */
  async stop(): Promise<void> {
    await this.#server.stop()
  }
}

async function answer(routes: Routes, path: string, query: URLSearchParams): Promise<Answer> {
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined
  if (route !== undefined) return json(200, await route(query))
  const message = `nothing is served at this path; there is ${Object.keys(routes).join(', ')}`
  const problem: AdminProblem = { error: { code: 'unknown-path', message } }
  return json(404, problem)
}

async function carryOut(
  commands: AdminCommands,
  path: string,
  body: string,
  logger: Logger,
): Promise<Answer> {
  const name = path.replace('/v1/', '')
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command === undefined) {
    return refusal(404, 'unknown-command', `there is ${Object.keys(commands).join(', ')}`)
  }
  let input: unknown
  try {
    input = JSON.parse(body)
  } catch {
    return refusal(400, 'not-json', 'what was posted is not JSON')
  }
  const outcome = await command(input)
  logger.debug({ command: name, input, outcome: outcome.kind }, 'admin command')
  switch (outcome.kind) {
    case 'done':
      return json(200, outcome.value)
    case 'refused':
      return refusal(409, outcome.code, outcome.problem, outcome.hint)
  }
}

function refusal(status: number, code: string, message: string, hint = ''): Answer {
  const problem: AdminProblem = { error: { code, message, hint } }
  return json(status, problem)
}
