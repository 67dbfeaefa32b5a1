/**
 * Owns the answer to `meshctl authz explain`: reads the question, finds the service among those of
 * this host, and has policy explain itself. Another host's service is that host's to explain.
 */

import type { AuthzAnswer } from '#shared/model/admin.ts'
import {
  parseServiceName,
  type Parsed,
  type ServiceName,
  type TrustDomain,
} from '#shared/model/names.ts'
import type { ServicePolicy } from '#shared/model/policy.ts'
import type { RequestFacts } from '#shared/model/request.ts'
import type { LocalInstance } from '#shared/model/snapshot.ts'
import { serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import { CompiledPolicy } from '#shared/policy/compiled-policy.ts'
import { explain } from '#shared/policy/explain.ts'
import { absolutePattern, parseIdentityPattern } from '#shared/policy/identity-pattern.ts'
import { queryOf, readRequestPath } from '#shared/route/request-path.ts'

/** What an explainer asks. */
export interface ExplainerParts {
  /** Null until the host has enrolled. */
  readonly trustDomain: () => TrustDomain | null
  readonly local: () => readonly LocalInstance[]
  readonly policyOf: (service: ServiceName) => ServicePolicy
  /** The hosts that have instances of a service. */
  readonly hostsOf: (service: ServiceName) => readonly string[]
}

/** How a question names a caller that proves nothing. */
const nobody = '-'

/** See the header. */
export class Explainer {
  readonly #parts: ExplainerParts

  constructor(parts: ExplainerParts) {
    this.#parts = parts
  }

  /** Answers `source`, `service`, and perhaps `method`, `path`, `host` and some `header`. */
  answer(query: URLSearchParams): AuthzAnswer {
    const { trustDomain, local, policyOf, hostsOf } = this.#parts
    const domain = trustDomain()
    if (domain === null) return badQuestion('this host has not enrolled, so it has no identities')
    const source = readSource(query.get('source') ?? '', domain)
    if (!source.ok) return badQuestion(source.problem)
    const service = parseServiceName(query.get('service') ?? '')
    if (!service.ok) return badQuestion(service.problem)
    const instance = local().find((one) => one.service === service.value)
    if (instance === undefined) {
      return { kind: 'elsewhere', service: service.value, hosts: hostsOf(service.value) }
    }
    const request = readRequest(query, instance.service)
    if (!request.ok) return badQuestion(request.problem)
    const destination = serviceId(domain, service.value)
    const policy = new CompiledPolicy(policyOf(service.value), { trustDomain: domain, destination })
    const call = {
      source: source.value,
      destination,
      port: instance.port,
      http: instance.protocol === 'http',
    }
    return {
      kind: 'explained',
      source: source.value ?? '',
      destination,
      port: instance.port,
      protocol: instance.protocol,
      path: request.value?.path.text ?? '',
      ...explain(policy, call, call.http ? request.value : null),
    }
  }
}

function readSource(text: string, trustDomain: TrustDomain): Parsed<SpiffeId | null> {
  if (text === nobody) return { ok: true, value: null }
  const pattern = parseIdentityPattern(text)
  if (!pattern.ok) return pattern
  if (pattern.value.kind === 'prefix') {
    return { ok: false, problem: 'the source must be one identity, without a *' }
  }
  return { ok: true, value: absolutePattern(pattern.value, trustDomain).text as SpiffeId }
}

/** The request asked about; null where none is. */
function readRequest(query: URLSearchParams, service: ServiceName): Parsed<RequestFacts | null> {
  const method = query.get('method') ?? ''
  if (method === '') return { ok: true, value: null }
  const target = query.get('path') ?? '/'
  const lines = query.getAll('header').map((line) => line.split('=', 2))
  if (lines.some(({ length }) => length < 2)) {
    return { ok: false, problem: 'a header is asked about as name=value' }
  }
  return {
    ok: true,
    value: {
      method,
      path: readRequestPath(target),
      query: queryOf(target),
      pathOverride: '',
      methodOverride: '',
      host: query.get('host') ?? `${service}.mesh`,
      lines: lines.map(([name = '', value = '']) => [name.toLowerCase(), value] as const),
      nominated: null,
    },
  }
}

function badQuestion(problem: string): AuthzAnswer {
  return { kind: 'bad-question', problem }
}
