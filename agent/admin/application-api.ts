/**
 * Owns what local programs may ask their agent and tell it: the services of the mesh, how they change,
 * and how their own service fares. Who asks is known beforehand, from the kernel; nothing here changes
 * anything but the health of the asker's own service, and nothing is an operator's.
 */

import type { ServiceReport } from '#shared/model/admin-services.ts'
import type { HealthResult } from '#shared/model/admin-wishes.ts'
import { parseServiceName, type ServiceName } from '#shared/model/names.ts'
import type { AdminCommand } from './admin-commands.ts'
import { json, type Answer, type Question, type StreamedAnswer } from './bounded-server.ts'
import type { ServiceWatches } from './service-watches.ts'

/** Who asks. */
export type Asker =
  /** The program of a service of this host, by the user it runs as. */
  | { readonly kind: 'service'; readonly service: ServiceName }
  /** A local program that is no service, or of which nobody knows. */
  | { readonly kind: 'nobody' }

/** Looks for a service that is not known here; null: now it is. Never rejects. */
export type LookUp = (service: ServiceName) => Promise<'unknown' | 'away' | 'overloaded' | null>

/** What the API leans on. */
export interface ApplicationApiParts {
  readonly services: () => readonly ServiceReport[]
  readonly host: () => { readonly host: string; readonly zone: string; readonly ready: boolean }
  readonly watches: ServiceWatches
  /** Looks for a service where not all are followed. @default all are */
  readonly lookUp?: LookUp
  /** Takes a `HealthResult`. */
  readonly bringHealth: AdminCommand
}

/** Names under which the API is asked; a page in a browser that was led here has another. */
const ownNames =
  /^(?:agent\.mesh|localhost|127(?:\.[0-9]{1,3}){3}|240\.240\.[0-9]{1,3}\.[0-9]{1,3}|\[[0-9a-f:]+\])(?::[0-9]{1,5})?$/i

const routes =
  'GET /v1/self, GET /v1/services, GET /v1/services/NAME, GET /v1/watch?service=NAME, PUT /v1/health'

/** Answers one question. */
export function answerApplication(
  parts: ApplicationApiParts,
  asker: Asker,
  path: string,
  question: Question,
): Answer | StreamedAnswer | Promise<Answer> {
  if (!ownNames.test(question.host)) {
    return refusal(403, 'wrong-host', 'this is asked as http://agent.mesh/', '')
  }
  if (question.method !== 'GET') {
    return path === '/v1/health'
      ? takeHealth(parts, asker, question.body)
      : refusal(404, 'unknown-path', `only health is brought here; there is ${routes}`, '')
  }
  switch (path) {
    case '/v1/self':
      return json(200, {
        ...parts.host(),
        service: asker.kind === 'service' ? asker.service : null,
      })
    case '/v1/services':
      return json(200, parts.services())
    case '/v1/watch':
      return parts.watches.answer(asker, question.query.getAll('service'))
  }
  const name = /^\/v1\/services\/([a-z0-9-]{1,63})$/.exec(path)?.[1]
  if (name === undefined) return refusal(404, 'unknown-path', `there is ${routes}`, '')
  return answerService(parts, name)
}

async function answerService(parts: ApplicationApiParts, name: string): Promise<Answer> {
  const find = () => parts.services().find((service) => service.name === name)
  if (find() === undefined) {
    const service = parseServiceName(name)
    if (service.ok) await parts.lookUp?.(service.value)
  }
  const found = find()
  return found === undefined
    ? refusal(404, 'unknown-service', `no host has registered a service ${name}`, '')
    : json(200, found)
}

async function takeHealth(
  { bringHealth }: ApplicationApiParts,
  asker: Asker,
  body: string,
): Promise<Answer> {
  if (asker.kind === 'nobody') {
    return refusal(
      403,
      'unknown-caller',
      'only a service brings its own health, and this program is known as none',
      'come by http://agent.mesh/, as the user named by "run" in the manifest',
    )
  }
  let said: unknown
  try {
    said = JSON.parse(body)
  } catch {
    return refusal(400, 'not-json', 'what was sent is not JSON', '')
  }
  if (typeof said !== 'object' || said === null) {
    return refusal(400, 'bad-input', 'expected {"outcome": "pass" | "warn" | "fail"}', '')
  }
  const { service = asker.service, detail = '', ...rest } = said as Partial<HealthResult>
  if (service !== asker.service) {
    const problem = `${asker.service} may bring its own health only, not that of ${JSON.stringify(service).slice(0, 80)}`
    return refusal(403, 'not-yours', problem, 'leave "service" out')
  }
  const outcome = await bringHealth({ ...rest, service, detail })
  switch (outcome.kind) {
    case 'done':
      return json(200, outcome.value)
    case 'refused': {
      const { code, problem, hint } = outcome
      return refusal(code === 'bad-input' ? 400 : 409, code, problem, hint)
    }
  }
}

/** A refusal of the API. */
export function refusal(status: number, code: string, message: string, hint: string): Answer {
  return json(status, { error: { code, message, hint } })
}
